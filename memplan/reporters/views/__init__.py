"""What each command has to say, as blocks, whatever it will look like."""
