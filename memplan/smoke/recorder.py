"""What real PyTorch code allocates when its tensors are fake: storages made and dropped, as a trace.

Every op that the code dispatches passes through here. Its results are noted when it returns, in the order in
which it returns them, and freed when the last reference to their storage goes, which Python says at once.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.simulator.tensor import CUBLASLT_WORKSPACE, cublas_workspace
from memplan.smoke import engine
from memplan.smoke.cuda import (
    INTO_ZEROS,
    PRODUCTS,
    Temporary,
    dtype_of,
    grouped_product,
    in_order_of_allocation,
    temporaries,
)
from memplan.smoke.meter import Named

aten = torch.ops.aten

LOGITS = "logits_and_loss"

_SCOPES = {Phase.FORWARD: "inputs"}
"""What is made before any module runs; other phases lend their own names."""

_DEVICE = torch.ops.prim.device.default
_READS = frozenset((aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default))


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Notes allocations, and answers what depends on numbers that fake tensors do not have.

    ``answer`` is what a question about data is answered with; ``reads`` counts the questions. ``component``
    and ``scope`` label what is allocated from here on; ``boundary`` is the sequence number of the first
    autograd node of the head and the loss. ``scalars_on_host`` says that the optimizer keeps its counters
    in host memory.
    """

    def __init__(self, capability: tuple[int, int], *, answer: bool, scalars_on_host: bool = False) -> None:
        super().__init__()
        self.trace = Trace()
        self.capability = capability
        self.answer = answer
        self.reads: Counter[str] = Counter()
        self.component = "activations"
        self.scope: list[str] = [""]
        self.boundary = 0
        self.in_backward = False
        self.host_scalars = False
        self.scalars_on_host = scalars_on_host
        self.alone: engine.Counts | None = None
        self._in_place = False
        self._last = "temporaries"
        self._blocks: dict[int, tuple[int, Any]] = {}
        self._workspaces: set[tuple[str, bool]] = set()

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE:
            return args[0].fake_device
        kwargs = kwargs or {}
        if func in _READS:
            return self._read(func, args)
        if func is aten.add.Tensor and self._adds_in_place(args):
            return args[0]
        workspace = PRODUCTS.get(func)
        if workspace is not None:
            self.take_workspace(workspace)
        if func is aten._grouped_mm.default:
            result = grouped_product(func, args, kwargs)
        elif func in INTO_ZEROS and self.in_backward and not torch.is_grad_enabled():
            result = args[0]
        else:
            result = func(*args, **kwargs)
        for tensor in in_order_of_allocation(func, result):
            if isinstance(tensor, torch.Tensor):
                self._note_tensor(func, tensor)
        self._hold(temporaries(func, args, result, self.capability))
        return result

    @contextmanager
    def adding_in_place(self) -> Iterator[None]:
        """Additions reuse their first operand until the block ends."""
        self._in_place = True
        try:
            yield
        finally:
            self._in_place = False

    def start(self) -> None:
        """Begin a new trace, in which the model is loaded."""
        self.trace = Trace()
        self.trace.enter(Phase.LOAD)

    def begin_step(self) -> None:
        """An optimizer step begins."""
        self.trace.cycles.append(len(self.trace.events))

    def enter(self, phase: Phase) -> None:
        """Everything from here on belongs to a phase, whose label is its own."""
        self.trace.enter(phase)
        self.in_backward = phase is Phase.BACKWARD
        self.host_scalars = phase is Phase.OPTIMIZER and self.scalars_on_host
        self.scope[-1] = _SCOPES.get(phase, str(phase))
        if phase is not Phase.BACKWARD:
            self.component = "temporaries" if phase is Phase.OPTIMIZER else "activations"

    def leave(self, phase: Phase) -> None:
        """Forward has returned, or gradients or new weights are there."""
        self.in_backward = self.host_scalars = False
        if phase is Phase.FORWARD:
            self.component = "activations"

    def name(self, tensors: Iterable[Named]) -> None:
        """Say what tensors turned out to be."""
        for tensor, component, name, op in tensors:
            self.relabel(tensor, component, name, op)

    def enter_head(self) -> None:
        """From here to the end of the forward pass, everything is logits and loss, and so is its gradient."""
        if not self.in_backward and self.component != LOGITS:
            self.component = LOGITS
            self.boundary = torch._C._autograd._get_sequence_nr()

    def enter_loss(self) -> None:
        """The loss begins, for a model without a head too."""
        self.enter_head()
        if self.trace.phases[-1][1] is not Phase.LOSS:
            self.trace.enter(Phase.LOSS)

    def relabel(self, tensor: Any, component: str, name: str, op: str) -> None:
        """Say what a tensor turned out to be."""
        found = self._blocks.get(tensor.untyped_storage()._cdata)
        if found is not None:
            tags = self.trace.tags
            tags[found[0]] = (component, name, op, *tags[found[0]][3:])

    def take_workspace(self, library: str) -> None:
        """A workspace of the running thread, kept for good: the autograd engine has a thread of its own."""
        key = (library, self.in_backward)
        if key not in self._workspaces:
            self._workspaces.add(key)
            size = cublas_workspace(self.capability) if library == "cublas" else CUBLASLT_WORKSPACE
            self.trace.allocate(size, ("workspace", library, "workspace", (size,), Dtype.UINT8))

    def _adds_in_place(self, args: Any) -> bool:
        """Whether the autograd engine makes this addition, and would make it in place (see ``engine``)."""
        if self._in_place:
            return True
        if not self.in_backward or not engine.is_accumulating():
            return False
        if self.alone is None:
            self.alone = engine.counts(args[0])
        return engine.can_add_in_place(args[0], self.alone)

    def _read(self, func: Any, args: Any) -> Any:
        self.reads[str(func)] += 1
        if func is aten._local_scalar_dense.default and args[0].dtype is not torch.bool:
            return 1.0 if args[0].is_floating_point() else 1
        return self.answer

    def _note_tensor(self, func: Any, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._blocks or (self.host_scalars and not tensor.dim()):
            return
        tag = (self._component(), self.scope[-1], func._opname, tuple(tensor.shape), dtype_of(tensor))
        block = self.trace.allocate(storage.nbytes(), tag)

        def drop(_: Any, key: int = key, block: int = block) -> None:
            del self._blocks[key]
            self.trace.free(block)

        self._blocks[key] = (block, weakref.ref(storage, drop))

    def _hold(self, found: tuple[Temporary, ...]) -> None:
        """Temporaries of a kernel: all there at once, and gone."""
        blocks = []
        for name, shape, dtype in found:
            tag = (self._component(), self.scope[-1], name, shape, dtype)
            blocks.append(self.trace.allocate(prod(shape) * dtype.itemsize, tag))
        for block in blocks:
            self.trace.free(block)

    def _component(self) -> str:
        if not self.in_backward or len(self.scope) > 1:
            return self.component
        node = torch._C._current_autograd_node()
        if node is not None:
            self._last = LOGITS if node._sequence_nr() >= self.boundary else "temporaries"
        return self._last
