"""``DistributedDataParallel``: every GPU holds everything, and gradients a second time in flat buckets.

Source: torch/nn/parallel/distributed.py, and ``initialize_buckets``, ``mark_variable_ready_dense``,
``rebuild_buckets`` and ``compute_bucket_assignment_by_size`` in torch/csrc/distributed/c10d/reducer.cpp.
The first step has one bucket a dtype; afterwards they are cut in the order in which gradients arrived.
Gradients are scaled into their bucket, reduced there and copied back; with ``gradient_as_bucket_view`` they
become views of it instead. Buckets stay for the whole run. NCCL reduces in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Protocol, TypeVar

from memplan.domain.allocator import MIB
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.simulator import autograd, layout
from memplan.simulator.autograd import Leaf
from memplan.simulator.layout import Shape
from memplan.simulator.optimizer import Stepper
from memplan.simulator.sharding.whole import Model, Whole
from memplan.simulator.tensor import Storage, Tape, Tensor

FIRST_BUCKET = MIB
"""Bytes at which the first bucket is full, without ``bucket_cap_mb`` (``kDefaultFirstBucketBytes``)."""

BROADCAST_BUCKET = 250 * MIB
"""Bytes at which a buffer is full that parameters are broadcast through when a model is wrapped."""

IN_FLIGHT = 2
"""Such buffers at a time."""

DEFAULT_BUCKET = 25 * MIB
"""Bytes at which the others are full, without ``bucket_cap_mb``."""


def wrap(tape: Tape, workload: Workload, model: Model) -> Whole:
    """The model within ``DistributedDataParallel``."""
    return Ddp(tape, workload, model)


class Ddp(Whole):
    """A model whose gradients are averaged in buckets.

    The buckets are cut anew before the second step (in ``forward``, where the batch is there already).
    """

    settling = 2

    def __init__(self, tape: Tape, workload: Workload, model: Model) -> None:
        super().__init__(tape, workload, model)
        self.arrived: list[Leaf] = []
        self.places: dict[int, Storage] = {}
        self.rebuilt = False
        broadcast(tape)
        self._allocate(_by_dtype(self.leaves).values())

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Gradients go to the buckets with the last micro-batch only (``no_sync`` around the others)."""
        if not last:
            autograd.backward(loss)
            return
        for leaf in self.leaves:
            leaf.after = self._arrive
        autograd.backward(loss)
        for leaf in self.leaves:
            leaf.after = None

    def update(self, stepper: Stepper) -> None:
        """Step the optimizer; after the first step the buckets are rebuilt."""
        super().update(stepper)
        if not self.rebuilt:
            self.rebuilt = True
            self.places.clear()
            self._allocate(assigned(self.arrived, self._limits()))

    def _limits(self) -> tuple[int, ...]:
        limit = self.workload.world.bucket_cap_mb
        if limit is None:
            return FIRST_BUCKET, DEFAULT_BUCKET
        return (limit * MIB,)

    def _arrive(self, leaf: Leaf) -> None:
        if not self.rebuilt:
            self.arrived.append(leaf)
        if self.workload.world.gradient_as_bucket_view:
            bucket = self.places[id(leaf)]
            leaf.grad = Tensor(self.tape, bucket, leaf.shape, layout.contiguous(leaf.shape), leaf.dtype)

    def _allocate(self, buckets: Iterable[list[Leaf]]) -> None:
        held = self.workload.world.gradient_as_bucket_view
        component = "gradients" if held else "communication"
        for bucket in buckets:
            count = sum(prod(leaf.shape) for leaf in bucket)
            dtype = bucket[0].dtype
            tag = (component, "ddp", "bucket", (count,), dtype)
            storage = Storage(self.tape.trace, count * dtype.itemsize, tag)
            for leaf in bucket:
                self.places[id(leaf)] = storage


def _by_dtype(leaves: Iterable[Leaf]) -> dict[Dtype, list[Leaf]]:
    found: dict[Dtype, list[Leaf]] = {}
    for leaf in leaves:
        found.setdefault(leaf.dtype, []).append(leaf)
    return found


def broadcast(tape: Tape) -> None:
    """Parameters and buffers as the first GPU has them, through flat copies (``broadcast_coalesced``).

    What fills a bucket alone is sent as it is (torch/csrc/distributed/c10d/comm.cpp,
    ``flatten_dense_tensors``).
    """
    trace = tape.trace
    freed = {~event for event in trace.events if event < 0}
    loaded = [_State(trace, block) for block in trace.events if block >= 0 and block not in freed]
    sending: list[Storage | None] = []
    for bucket in assigned(loaded, (BROADCAST_BUCKET,)):
        if len(sending) == IN_FLIGHT:
            del sending[0]
        count = sum(prod(state.shape) for state in bucket)
        dtype = bucket[0].dtype
        tag = ("communication", "ddp", "broadcast", (count,), dtype)
        sending.append(Storage(trace, count * dtype.itemsize, tag) if len(bucket) > 1 else None)


class _State:
    """A parameter or buffer by its block."""

    __slots__ = ("dtype", "shape")

    def __init__(self, trace: Trace, block: int) -> None:
        self.shape, self.dtype = trace.tags[block][3:]


class Flat(Protocol):
    """What goes into a bucket."""

    shape: Shape
    dtype: Dtype


Item = TypeVar("Item", bound=Flat)


def assigned(leaves: Iterable[Item], limits: tuple[int, ...]) -> list[list[Item]]:
    """Leaves in buckets of one dtype: each is full once it holds as many bytes as its limit.

    The last limit counts for all that follow. What is not full in the end comes last.
    """
    full: list[list[Item]] = []
    filling: dict[Dtype, list[Item]] = {}
    sizes: dict[Dtype, int] = {}
    made: dict[Dtype, int] = {}
    for leaf in leaves:
        dtype = leaf.dtype
        filling.setdefault(dtype, []).append(leaf)
        sizes[dtype] = sizes.get(dtype, 0) + prod(leaf.shape) * dtype.itemsize
        if sizes[dtype] >= limits[min(made.get(dtype, 0), len(limits) - 1)]:
            full.append(filling.pop(dtype))
            sizes[dtype] = 0
            made[dtype] = made.get(dtype, 0) + 1
    return [*full, *filling.values()]
