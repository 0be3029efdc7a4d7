"""Torch mechanisms that keep memory small, usable as a library: one folder each.

Each works on its own and knows nothing of plans; ``memplan.programs`` foretells what one allocates, and
``memplan smoke`` holds the two against each other. Importing this package imports no torch.
"""
