"""A group of parameters that FSDP2 gathers, lets go of and reduces together.

Source: ``FSDPParamGroup`` and ``FSDPParam`` in torch/distributed/fsdp/_fully_shard (2.13), whose methods have
the names used here, and ``foreach_all_gather``, ``foreach_all_gather_copy_out`` and ``foreach_reduce`` in its
_fsdp_collectives.py. Parameters are cut along their first axis into as many equal pieces as there are GPUs,
the last ones padded: rank 0, whose pieces are full, is simulated.
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.domain.workload import World
from memplan.simulator import layout
from memplan.simulator.autograd import Leaf
from memplan.simulator.layout import Shape
from memplan.simulator.tensor import Parameter, Resizable, Storage, Tape, Tensor

COPY_IN_STREAM = 1
"""Where all-gathers get their memory; what is gathered is copied into memory of the computing stream, 0."""

REDUCE_STREAM = 2
"""Where reduced gradients get theirs."""


class Shared:
    """What the groups of a model have in common (``FSDPCommContext``).

    ``gathered`` is the all-gather's result that the forward pass keeps until the next group has been copied
    out, ``reducing`` the input of the last reduce-scatter.
    """

    __slots__ = ("gathered", "order", "reducing", "tape", "world")

    def __init__(self, tape: Tape, world: World) -> None:
        self.tape = tape
        self.world = world
        self.gathered: Storage | None = None
        self.reducing: Storage | None = None
        self.order: list[Group] = []

    def allocate(self, name: str, count: int, dtype: Dtype, component: str, stream: int = 0) -> Storage:
        """A flat buffer of ``count`` elements on a CUDA stream."""
        trace = self.tape.trace
        found = Storage(trace, count * dtype.itemsize, (component, "fsdp2", name, (count,), dtype))
        if stream:
            trace.streams[found.block] = stream
        return found


class Sharded:
    """One parameter: the piece that stays (``leaf`` stands for it in the optimizer), and the whole."""

    __slots__ = ("accumulated", "gathered", "leaf", "parameter", "piece", "shard", "trained")

    def __init__(self, tape: Tape, parameter: Parameter, world: World) -> None:
        sides = parameter.shape or (1,)
        rows = -(-sides[0] // world.data_parallel)
        self.piece: Shape = (rows, *sides[1:])
        storage = parameter.storage
        trace = tape.trace
        # Models are loaded without memory and cut before they get any: only pieces were ever there.
        tag = (parameter.component, parameter.name, "shard", self.piece, parameter.dtype)
        trace.sizes[storage.block] = prod(self.piece) * parameter.dtype.itemsize
        trace.tags[storage.block] = tag
        self.shard = Tensor(tape, storage, self.piece, layout.contiguous(self.piece), parameter.dtype)
        self.trained = parameter.node if isinstance(parameter.node, Leaf) else None
        self.leaf = Leaf(self.shard, parameter.name)
        self.accumulated: Tensor | None = None
        dtype = world.param_dtype or parameter.dtype
        size = prod(self.piece) * world.data_parallel * dtype.itemsize
        tag = (parameter.component, parameter.name, "gathered", parameter.shape, dtype)
        self.gathered = Resizable(trace, size, tag)
        parameter.storage = self.gathered
        parameter.dtype = dtype
        if self.trained is not None:
            self.trained.dtype = dtype
        self.parameter = parameter

    @property
    def has_gradient(self) -> bool:
        """Whether there is a whole gradient."""
        return self.accumulated is not None or (self.trained is not None and self.trained.grad is not None)

    def take_gradient(self) -> Tensor:
        """The whole gradient, which is the caller's from here on."""
        found, self.accumulated = self.accumulated, None
        if found is None and self.trained is not None:
            found, self.trained.grad = self.trained.grad, None
        assert found is not None
        return found


class Group:
    """The parameters of one module, or of the root.

    ``whole`` says that they are gathered; ``incoming`` is an all-gather under way. ``rereading`` is true
    while backward goes through the group's module, ``reduced`` once it is over. ``keeps`` says that they
    stay gathered after the forward pass.
    """

    __slots__ = ("entries", "incoming", "keeps", "places", "reduced", "rereading", "shared", "whole")

    def __init__(self, shared: Shared, parameters: list[Parameter], *, keeps: bool) -> None:
        self.shared = shared
        self.keeps = keeps
        self.entries = [Sharded(shared.tape, parameter, shared.world) for parameter in parameters]
        self.whole = False
        self.rereading = False
        self.reduced = False
        self.incoming: Storage | None = None
        self.places: list[int] = []

    def unshard(self) -> None:
        """Start an all-gather, unless the parameters are there or on their way."""
        if self.whole or self.incoming is not None:
            return
        shared, entries = self.shared, self.entries
        dtypes = {entry.parameter.dtype for entry in entries}
        # Several dtypes are gathered as bytes.
        dtype = dtypes.pop() if len(dtypes) == 1 else Dtype.UINT8
        size = sum(prod(entry.piece) * entry.parameter.dtype.itemsize for entry in entries)
        casts = [entry for entry in entries if entry.parameter.dtype is not entry.shard.dtype]
        casted = None
        if casts:
            count = sum(prod(entry.piece) for entry in casts)
            casted = shared.allocate(
                "copy_in", count, casts[0].parameter.dtype, "communication", COPY_IN_STREAM
            )
        count = size // dtype.itemsize * shared.world.data_parallel
        self.incoming = shared.allocate("all_gather", count, dtype, "communication", COPY_IN_STREAM)
        del casted

    def wait(self, *, forward: bool) -> None:
        """Copy what was gathered into the parameters."""
        if self.incoming is None:
            return
        # A local variable of ``wait_for_unshard`` keeps what it lets go of until it returns.
        _previous = self.shared.gathered
        for entry in self.entries:
            entry.gathered.take()
        self.whole = True
        if forward:
            self.shared.gathered = self.incoming
        self.incoming = None

    def reshard(self) -> None:
        """Let go of the whole parameters."""
        if self.whole:
            for entry in self.entries:
                entry.gathered.release()
            self.whole = False

    def after_forward(self) -> None:
        """The module has run: its parameters go, and its place in the order of modules is noted."""
        if not self.keeps:
            self.reshard()
        self.places.append(len(self.shared.order))
        self.shared.order.append(self)

    def before_backward(self) -> None:
        """The gradient of the module's result is there: gather again, and start on the module before."""
        if self.rereading:
            return
        self.rereading = True
        self.unshard()
        self.wait(forward=False)
        if self.places:
            place = self.places.pop()
            if place:
                self.shared.order[place - 1].unshard()

    def after_backward(self, *, reduces: bool) -> None:
        """All gradients of the module are there: reduce them, or keep them for the next micro-batch."""
        self.reduced = True
        self.rereading = False
        world = self.shared.world
        for entry in self.entries:
            if entry.accumulated is not None and entry.trained is not None:
                entry.trained.grad = None
        if not reduces:
            self.reshard()
            if world.reduce_dtype is not None:
                self._cast(world.reduce_dtype)
            return
        entries = [entry for entry in self.entries if entry.has_gradient]
        gradients = [entry.take_gradient() for entry in entries]
        self.reshard()
        self.shared.reducing = None
        if gradients:
            self._reduce(entries, gradients)

    def _cast(self, dtype: Dtype) -> None:
        """``to_accumulated_grad_if_needed``."""
        for entry in self.entries:
            leaf = entry.trained
            if leaf is None or leaf.grad is None or leaf.grad.dtype is dtype:
                continue
            gradient, leaf.grad = leaf.grad, None
            tape = self.shared.tape
            component, tape.component = tape.component, "gradients"
            entry.accumulated = tape.empty(gradient.shape, dtype, "to")
            tape.component = component
            del gradient

    def _reduce(self, entries: list[Sharded], gradients: list[Tensor]) -> None:
        """``foreach_reduce``: its last loop variable holds on to the last gradient until it returns."""
        shared, world = self.shared, self.shared.world
        dtype = world.reduce_dtype or gradients[0].dtype
        _last = gradients[-1]
        count = sum(prod(entry.piece) for entry in entries)
        whole = shared.allocate("reduce_scatter", count * world.data_parallel, dtype, "communication")
        gradients.clear()
        reduced = shared.allocate("reduced", count, dtype, "gradients", REDUCE_STREAM)
        kept = entries[0].shard.dtype
        if kept is not dtype:
            reduced = shared.allocate("reduced", count, kept, "gradients", REDUCE_STREAM)
        for entry in entries:
            if entry.leaf.grad is None:
                entry.leaf.grad = Tensor(
                    shared.tape, reduced, entry.piece, layout.contiguous(entry.piece), kept
                )
        shared.reducing = whole
