"""What the mechanisms of ``memplan.mechanisms`` allocate, without torch: one program each."""
