"""Tensors without numbers: shape, strides, element type, and memory that lives as long as it is referenced."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Tag, Trace
from memplan.simulator import layout
from memplan.simulator.layout import Shape

if TYPE_CHECKING:
    from memplan.simulator.autograd import Node
    from memplan.simulator.checkpoint import Region


class Tape:
    """One simulated process: the trace it leaves and the switches its ops read.

    ``component`` and ``scope`` label what is allocated from here on. ``autocast`` is the dtype matrix
    products are cast to, ``casts`` its weight cache. ``in_backward`` says that the autograd engine's
    thread is running. ``region`` is the checkpointed region being run, if any.
    """

    __slots__ = (
        "autocast",
        "casts",
        "component",
        "grad_enabled",
        "in_backward",
        "order",
        "region",
        "scope",
        "trace",
        "workspace",
        "workspaces",
    )

    def __init__(self, workspace: int = 0) -> None:
        self.trace = Trace()
        self.component = "activations"
        self.scope = ""
        self.grad_enabled = True
        self.in_backward = False
        self.autocast: Dtype | None = None
        self.casts: dict[int, Tensor] = {}
        self.order = 0
        self.region: Region | None = None
        self.workspace = workspace
        self.workspaces: dict[bool, Storage] = {}

    def empty(self, shape: Shape, dtype: Dtype, op: str, strides: Shape | None = None) -> Tensor:
        """Allocate a tensor; row-major unless strides are given."""
        storage = Storage(self.trace, prod(shape) * dtype.itemsize, (self.component, self.scope, op, shape, dtype))
        return Tensor(self, storage, shape, strides or layout.contiguous(shape), dtype)

    def take_workspace(self) -> None:
        """Give the running thread its cuBLAS workspace, taken at its first matrix product and kept.

        PyTorch takes one from the caching allocator per (handle, stream), and the autograd engine's
        thread has a handle of its own (``getCurrentCUDABlasHandle`` in
        aten/src/ATen/cuda/CublasHandlePool.cpp): a training step holds two.
        """
        if self.workspace and self.in_backward not in self.workspaces:
            tag = ("workspace", "cublas", "workspace", (self.workspace,), Dtype.UINT8)
            self.workspaces[self.in_backward] = Storage(self.trace, self.workspace, tag)


class Storage:
    """A block of device memory, returned when the last tensor that uses it is gone."""

    __slots__ = ("block", "trace")

    def __init__(self, trace: Trace, size: int, tag: Tag) -> None:
        self.trace = trace
        self.block = trace.allocate(size, tag)

    def __del__(self) -> None:
        self.trace.free(self.block)


class Tensor:
    """A view of a storage. ``node`` is what computes its gradient; ``None`` means it needs none.

    ``base`` is the tensor this one is a view of. PyTorch's views hold their base too, which is why a
    gradient that is a view is never added to in place.
    """

    __slots__ = ("base", "dtype", "node", "shape", "storage", "strides", "tape")

    def __init__(
        self,
        tape: Tape,
        storage: Storage,
        shape: Shape,
        strides: Shape,
        dtype: Dtype,
        base: Tensor | None = None,
    ) -> None:
        self.tape = tape
        self.storage = storage
        self.shape = shape
        self.strides = strides
        self.dtype = dtype
        self.base = base
        self.node: Node | None = None

    def alias(self, shape: Shape, strides: Shape) -> Tensor:
        """A view of the same memory, outside the autograd graph."""
        return Tensor(self.tape, self.storage, shape, strides, self.dtype, self.base or self)

    def detach(self) -> Tensor:
        """The same tensor, outside the autograd graph."""
        return Tensor(self.tape, self.storage, self.shape, self.strides, self.dtype)


class Parameter(Tensor):
    """A tensor of the model itself, under its name."""

    __slots__ = ("name",)

    def __init__(self, tape: Tape, shape: Shape, dtype: Dtype, component: str, name: str) -> None:
        storage = Storage(tape.trace, prod(shape) * dtype.itemsize, (component, name, "parameter", shape, dtype))
        super().__init__(tape, storage, shape, layout.contiguous(shape), dtype)
        self.name = name
