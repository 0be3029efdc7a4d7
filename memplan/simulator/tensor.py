"""Tensors without numbers: shape, strides, element type, and memory that lives while it is referenced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.trace import OUTSIDE, Tag, Trace
from memplan.simulator import layout
from memplan.simulator.folding import Fold
from memplan.simulator.layout import Shape
from memplan.simulator.patches import NONE, Patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from memplan.simulator.autograd import Node
    from memplan.simulator.cache import Cache
    from memplan.simulator.checkpoint import Region
    from memplan.simulator.offload import Offload


HOST = (1000, 0)
"""A CPU, in place of a compute capability: its kernels lack none of those that new GPUs have."""

CUBLASLT_WORKSPACE = 2**20
"""Bytes of a cublasLt workspace, by default."""

RELEASED = -1
"""Stands for the block of a storage whose memory is released."""


def cublas_workspace(capability: tuple[int, int]) -> int:
    """Bytes of one cuBLAS workspace: 32 MiB on Hopper (sm_90), else 2 × 4096 KiB + 8 × 16 KiB.

    Source: ``parseChosenWorkspaceSize`` in aten/src/ATen/cuda/CublasHandlePool.cpp.
    """
    return 32 * 2**20 if capability == (9, 0) else (2 * 4096 + 8 * 16) * 1024


class Tape:
    """One simulated process: the trace it leaves and the switches its ops read.

    ``component`` and ``scope`` label what is allocated from here on. ``autocast`` is the dtype matrix
    products are cast to, ``casts`` its weight cache. ``in_backward`` says that the autograd engine's
    thread is running, ``training`` that modules are in training mode. ``capability`` is the GPU's compute
    capability, ``framework`` the libraries whose habits count. ``region`` is the checkpointed region being
    run, ``cache`` the key/value cache in use, if any. ``before`` holds what to call when the gradient of a
    node is there, before it runs (tensor hooks). ``gradients`` is the dtype parameters' gradients are
    kept in, if not their own. ``liger`` says which ops Liger's kernels replace. ``fold`` says
    which layers are simulated, and which of them stands for more.
    """

    __slots__ = (
        "autocast",
        "before",
        "cache",
        "capability",
        "casts",
        "component",
        "fold",
        "framework",
        "grad_enabled",
        "gradients",
        "in_backward",
        "liger",
        "offload",
        "order",
        "region",
        "scope",
        "trace",
        "training",
        "workspaces",
    )

    def __init__(
        self,
        capability: tuple[int, int],
        framework: Framework | None = None,
        fold: Fold | None = None,
    ) -> None:
        self.trace = Trace()
        self.capability = capability
        self.fold = fold
        self.framework = framework or Framework()
        self.component = "activations"
        self.scope = ""
        self.grad_enabled = True
        self.gradients: Dtype | None = None
        self.training = True
        self.in_backward = False
        self.autocast: Dtype | None = None
        self.casts: dict[int, Tensor] = {}
        self.liger: Patches = NONE
        self.order = 0
        self.region: Region | None = None
        self.offload: Offload | None = None
        self.cache: Cache | None = None
        self.workspaces: dict[tuple[str, bool], Storage] = {}
        self.before: dict[Node, Callable[[], None]] = {}

    def empty(self, shape: Shape, dtype: Dtype, op: str, strides: Shape | None = None) -> Tensor:
        """Allocate a tensor; row-major unless strides are given."""
        storage = Storage(
            self.trace, prod(shape) * dtype.itemsize, (self.component, self.scope, op, shape, dtype)
        )
        return Tensor(self, storage, shape, strides or layout.contiguous(shape), dtype)

    def layers(self, count: int) -> Iterator[int]:
        """The indices of those of ``count`` layers that are simulated; allocations belong to the current."""
        for layer, index in self.places(count):
            self.trace.layer = layer
            yield index
        self.trace.layer = OUTSIDE

    def places(self, count: int) -> Iterable[tuple[int, int]]:
        """The same with what the trace calls each of these layers."""
        return enumerate(range(count)) if self.fold is None else self.fold.layers

    def alike(self, layer: int) -> int:
        """How many layers of the model a simulated layer stands for."""
        return self.fold.repeats + 1 if self.fold is not None and layer == self.fold.layer else 1

    def take_workspace(self, library: str = "cublas") -> None:
        """Give the running thread a workspace of a library, taken at its first matrix product and kept.

        PyTorch takes them from the caching allocator per (handle, stream), and the autograd engine's
        thread has a handle of its own: a training step holds two. Products with a fused bias go through
        cublasLt, which has its own 1 MiB (``getCurrentCUDABlasHandle``, ``getCUDABlasLtWorkspace`` and
        ``parseCUDABlasLtWorkspaceSize`` in aten/src/ATen/cuda/CublasHandlePool.cpp).
        A CPU has none.
        """
        key = (library, self.in_backward)
        if key not in self.workspaces and self.capability != HOST:
            size = cublas_workspace(self.capability) if library == "cublas" else CUBLASLT_WORKSPACE
            tag = ("workspace", library, "workspace", (size,), Dtype.UINT8)
            self.workspaces[key] = Storage(self.trace, size, tag, once=True)


class Storage:
    """A block of device memory, returned when the last tensor that uses it is gone."""

    __slots__ = ("block", "trace")

    def __init__(self, trace: Trace, size: int, tag: Tag, *, once: bool = False) -> None:
        self.trace = trace
        self.block = trace.allocate(size, tag)
        if once:
            trace.once.add(self.block)

    def __del__(self) -> None:
        self.trace.free(self.block)


class Resizable(Storage):
    """A storage whose memory can be released and taken again while tensors still point at it.

    ``untyped_storage().resize_(0)`` and back, as FSDP2 and ZeRO-3 do with gathered parameters. It begins
    without memory. ``stream`` is the CUDA stream it is taken on.
    """

    __slots__ = ("size", "tag")

    def __init__(self, trace: Trace, size: int, tag: Tag) -> None:
        self.trace = trace
        self.size = size
        self.tag = tag
        self.block = RELEASED

    @property
    def held(self) -> bool:
        """Whether the memory is there."""
        return self.block != RELEASED

    def take(self) -> None:
        """Have the memory, anew unless it is there."""
        if self.block == RELEASED:
            self.block = self.trace.allocate(self.size, self.tag)

    def release(self) -> None:
        """Give the memory back if it is there."""
        if self.block != RELEASED:
            self.trace.free(self.block)
            self.block = RELEASED

    def __del__(self) -> None:
        self.release()


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

    __slots__ = ("__weakref__", "component", "name")

    def __init__(self, tape: Tape, shape: Shape, dtype: Dtype, component: str, name: str) -> None:
        storage = Storage(
            tape.trace, prod(shape) * dtype.itemsize, (component, name, "parameter", shape, dtype)
        )
        super().__init__(tape, storage, shape, layout.contiguous(shape), dtype)
        self.component = component
        self.name = name

    def convert(self, dtype: Dtype) -> None:
        """``parameter.data = parameter.data.to(dtype)``: the old memory goes when the new is there."""
        if dtype is not self.dtype:
            trace = self.tape.trace
            layer, trace.layer = trace.layer, trace.layers[self.storage.block]
            tag = (self.component, self.name, "parameter", self.shape, dtype)
            self.storage = Storage(trace, prod(self.shape) * dtype.itemsize, tag)
            self.dtype = dtype
            trace.layer = layer
