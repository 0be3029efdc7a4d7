"""The memory of a PyTorch step, without PyTorch.

Tensors here have a shape, strides, an element type and a lifetime, but no numbers. Running a model's
forward pass on them, then backward and the optimizer, yields the sequence of allocations and frees
that a CUDA build of PyTorch makes. Lifetimes are CPython's own: a tensor's memory is returned when
the last reference to it goes, which is also how PyTorch decides.
"""
