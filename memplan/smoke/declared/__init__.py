"""Declared tensors made for real: stand-ins with the shapes, element types and roles that were declared.

Nothing is computed with them, since nobody said what their model does: what is proven is that they are as
large as predicted, and that they fit.
"""
