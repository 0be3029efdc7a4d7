"""One flat parameter of FSDP1: what a wrapped module's parameters become.

Source: ``FlatParamHandle`` in torch/distributed/fsdp/_flat_param.py and the hooks in its _runtime_utils.py
(2.13), whose names are used here. Modules use views of the flat parameter, so backward concatenates the
gradients of all of them (``split_with_sizes_backward``) before any is reduced. Rank 0 is simulated: of shares
that do not come out even the last ones are padded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator import layout, shapes
from memplan.simulator.autograd import Leaf, Node
from memplan.simulator.sharding.fsdp1_shared import (
    POST_BACKWARD_STREAM,
    PRE_UNSHARD_STREAM,
    UNSHARD_STREAM,
    Shared,
    named,
)
from memplan.simulator.splits import split
from memplan.simulator.tensor import Parameter, Resizable, Storage, Tensor

ALIGNMENT = 16
"""Bytes at which each original parameter begins if those are kept (``_get_aligned_numel``)."""


class State(StrEnum):
    """What a flat parameter is being used for (``HandleTrainingState``)."""

    IDLE = "idle"
    FORWARD = "forward"
    BACKWARD_PRE = "backward_pre"
    BACKWARD_POST = "backward_post"


class Packed(Tensor):
    """A 4-bit weight as FSDP sees it: so many elements of the dtype that it is stored in.

    That must be the dtype of what it is flattened with (``bnb_4bit_quant_storage``).
    """

    __slots__ = ("name",)

    def __init__(self, packed: Tensor, name: str, dtype: Dtype) -> None:
        count = prod(packed.shape) * packed.dtype.itemsize // dtype.itemsize
        super().__init__(packed.tape, packed.storage, (count,), (1,), dtype)
        self.name = name


class Flat:
    """The parameters of one wrapped module in a row: this GPU's share, and the whole while it is needed.

    ``leaf`` accumulates the gradient of the whole, ``leaves`` are what the optimizer works on: the share's
    parts of the original parameters, or all of it. ``gradient`` is the reduced share of the gradient, and
    ``saved`` the same during backward.

    ``watched`` are the nodes of a frozen module's inputs. The hook that waits for their gradients holds on to
    them until backward is over (``grad_fns`` of ``register_multi_grad_hook`` in torch/autograd/graph.py), and
    so to what reentrant checkpointing was given, and its gradient.
    """

    def __init__(self, shared: Shared, parameters: Sequence[Parameter | Packed], *, root: bool) -> None:
        self.shared = shared
        self.parameters = parameters
        self.root = root
        world, tape = shared.world, shared.tape
        self.dtype = parameters[0].dtype
        self.computes = world.param_dtype or self.dtype
        self.trained = [isinstance(parameter.node, Leaf) for parameter in parameters]
        self.widths = self._widths()
        self.count = sum(width for _, width in self.widths)
        self.piece = -(-self.count // world.data_parallel)
        name = named(parameters)
        tag = ("flat_parameters", name, "gathered", (self.count,), self.computes)
        size = self.piece * world.data_parallel * self.computes.itemsize
        self.gathered = Resizable(tape.trace, size, tag)
        self.leaf: Leaf | None = None
        self._cut(name)
        self.state = State.IDLE
        self.index: int | None = None
        self.place: int | None = None
        self.awaited = False
        self.prefetched = self.needed = self.ran = self.called = self.exposed = False
        self.watched: list[Node | None] = []
        self.gradient: Storage | None = None
        self.saved: Storage | None = None

    @property
    def trains(self) -> bool:
        """Whether any of the parameters trains: then all of them get gradients."""
        return any(self.trained)

    def _widths(self) -> list[tuple[int | None, int]]:
        """Each original parameter by its number with its elements, and padding (``None``) between them."""
        sizes = [prod(parameter.shape) for parameter in self.parameters]
        if not self.shared.world.use_orig_params:
            return list(enumerate(sizes))
        aligned = ALIGNMENT // self.computes.itemsize
        found: list[tuple[int | None, int]] = []
        total = 0
        for place, size in enumerate(sizes):
            for width, number in ((-total % aligned, None), (size, place)):
                if width:
                    found.append((number, width))
                    total += width
        padding = -total % self.shared.world.data_parallel
        return [*found, (None, padding)] if padding else found

    def _cut(self, name: str) -> None:
        """Keep this GPU's share. Models are loaded without GPU memory: only shares were ever there."""
        tape, trace = self.shared.tape, self.shared.tape.trace
        layer, trace.layer = trace.layer, trace.layers[self.parameters[0].storage.block]
        leaves = [parameter.node for parameter in self.parameters]
        for parameter in self.parameters:
            trace.sizes[parameter.storage.block] = 0
            parameter.storage = self.gathered
            parameter.node = None
        size = self.piece * self.dtype.itemsize
        tag = ("flat_parameters", name, "shard", (self.piece,), self.dtype)
        self.shard = Tensor(tape, Storage(trace, size, tag), (self.piece,), (1,), self.dtype)
        self.leaves = list(self._pieces(leaves)) if self.trains else []
        if self.trains:
            self.leaf = Leaf(self._flat(), name)
            self.leaf.after = self._accumulated
        trace.layer = layer

    def _pieces(self, leaves: Sequence[object]) -> Iterator[tuple[int, Leaf]]:
        """What the optimizer gets, with the identity of the leaf each stands for (0: of none alone)."""
        if not self.shared.world.use_orig_params:
            yield 0, Leaf(self.shard, named(self.parameters))
            return
        for place, size in self._shares():
            if self.trained[place]:
                part = self.shard.alias((size,), (1,))
                yield id(leaves[place]), Leaf(part, self.parameters[place].name)

    def _shares(self) -> Iterator[tuple[int, int]]:
        """The original parameters that are in the share, by number, with how many of their elements."""
        start = 0
        for place, width in self.widths:
            size = min(width, self.piece - start)
            start += width
            if size > 0 and place is not None:
                yield place, size

    def _flat(self) -> Tensor:
        shape = (self.count,)
        return Tensor(self.shared.tape, self.gathered, shape, layout.contiguous(shape), self.computes)

    def unshard(self) -> None:
        """Have the whole parameters; with mixed precision the share is cast before it is gathered."""
        self._appear(self.computes)
        if self.gathered.held:
            return
        shared = self.shared
        casted = None
        if self.computes is not self.dtype:
            casted = shared.allocate(
                "mp_shard", self.piece, self.computes, "communication", PRE_UNSHARD_STREAM
            )
        self.gathered.take()
        shared.tape.trace.streams[self.gathered.block] = UNSHARD_STREAM
        del casted

    def _appear(self, dtype: Dtype) -> None:
        """Original parameters are of the dtype of what they are views of, the share or the whole."""
        for parameter in self.parameters:
            parameter.dtype = dtype

    def use_views(self) -> None:
        """Give modules views of the whole, through which gradients come back (``_use_unsharded_views``)."""
        if self.leaf is None:
            return
        tape = self.shared.tape
        enabled, tape.grad_enabled = tape.grad_enabled, True
        flat = self._flat()
        flat.node = self.leaf
        parts = split(flat, 0, [width for _, width in self.widths])
        for (place, _), part in zip(self.widths, parts, strict=True):
            if place is not None:
                parameter = self.parameters[place]
                parameter.node = shapes.view(part, parameter.shape).node
        tape.grad_enabled = enabled

    def reshard(self, *, free: bool) -> None:
        """Go back to the share; ``free`` lets go of the whole."""
        if free:
            self.gathered.release()
        if self.shared.world.use_orig_params:
            self._appear(self.dtype)
        self.prefetched = False

    @property
    def frees_in_backward(self) -> bool:
        """Whether backward lets go of the whole (``_should_free_in_backward``)."""
        return self.shared.reduces or self.shared.world.reshard_after_forward

    def prepare(self) -> None:
        """``prepare_gradient_for_backward``: the reduced gradient makes way for a whole one."""
        if self.gradient is not None:
            self.saved, self.gradient = self.gradient, None

    def _accumulated(self, leaf: Leaf) -> None:
        """``_post_backward_hook``: let go of the parameters, and reduce their gradient."""
        self.called = True
        self.state = State.BACKWARD_POST
        self.reshard(free=self.frees_in_backward)
        self.prefetch("post")
        if not self.shared.reduces:
            self._expose()
            return
        self.exposed = False
        whole, leaf.grad = leaf.grad, None
        assert whole is not None
        self._reduce(whole)

    def _expose(self) -> None:
        """Make the whole gradient that of the original parameters, which are shares: each is given an empty
        one to put it in (``_use_unsharded_grad_views``).
        """
        if self.exposed or not self.shared.world.use_orig_params:
            return
        self.exposed = True
        tape = self.shared.tape
        for _, size in self._shares():
            _empty = tape.empty((size,), self.dtype, "empty_like")
            del _empty

    def _reduce(self, whole: Tensor) -> None:
        """``_reduce_grad``, on a stream of its own: cast, pad, reduce, cast back, add."""
        shared, world = self.shared, self.shared.world
        dtype = world.reduce_dtype or world.param_dtype or self.dtype
        sent = None
        if dtype is not whole.dtype:
            sent = shared.allocate("reduce", self.count, dtype, "communication", POST_BACKWARD_STREAM)
        padded = None
        if self.count % world.data_parallel:
            count = self.piece * world.data_parallel
            padded = shared.allocate("pad", count, dtype, "communication", POST_BACKWARD_STREAM)
        reduced = shared.allocate("reduced", self.piece, dtype, "gradients", POST_BACKWARD_STREAM)
        if dtype is not self.dtype:
            reduced = shared.allocate("reduced", self.piece, self.dtype, "gradients", POST_BACKWARD_STREAM)
        if self.saved is None:
            self.saved = reduced
        del sent, padded, reduced

    def prefetch(self, when: str) -> None:
        """Start gathering for the module that ran before this one, if now is when that is done."""
        shared = self.shared
        if shared.world.backward_prefetch != when or not self.index:
            return
        target = shared.order[self.index - 1]
        if target.needed and not target.prefetched:
            target.unshard()
            target.prefetched = True

    def begin(self) -> None:
        """``_pre_forward``: gather, unless that was done ahead, and start on what runs next."""
        first = self.shared.first
        if self.place is None:
            self.place = len(first)
            first.append(self)
        self.state = State.FORWARD
        if not self.prefetched:
            self.unshard()
            self.use_views()
        self.awaited = False
        if self.shared.world.forward_prefetch and self.place + 1 < len(first):
            target = first[self.place + 1]
            if target.awaited and not target.prefetched:
                target.unshard()
                target.use_views()
                target.prefetched = True

    def finish(self) -> None:
        """Backward is over (``_post_backward_final_callback``): hand the optimizer its gradients."""
        if self.gathered.held:
            self.reshard(free=self.frees_in_backward)
        self.watched.clear()
        self.ran = self.needed = self.prefetched = False
        self.index = None
        self.state = State.IDLE
        if not self.shared.reduces or not self.called:
            return
        self.called = False
        self.gradient, self.saved = self.saved, None
        for _, leaf in self.leaves:
            assert self.gradient is not None
            leaf.grad = Tensor(self.shared.tape, self.gradient, leaf.shape, leaf.strides, self.dtype)

    def drop(self) -> None:
        """Let go of gradients that the optimizer has dropped (``_reset_flat_param_grad_info_if_needed``)."""
        if all(leaf.grad is None for _, leaf in self.leaves):
            self.gradient = None
