"""ZeRO's stages 1 and 2: parameters in one flat buffer, of which each GPU updates a partition.

Source: ``DeepSpeedZeroOptimizer`` in deepspeed/runtime/zero/stage_1_and_2.py. Parameters are one group; an
optimizer that excepts some from weight decay has two, of which the second is small.
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.simulator import autograd
from memplan.simulator.autograd import Leaf
from memplan.simulator.optimizer import Stepper
from memplan.simulator.sharding.whole import Model
from memplan.simulator.sharding.zero_engine import Engine
from memplan.simulator.sharding.zero_layout import Layout, merged
from memplan.simulator.tensor import Tape, Tensor


class Flat(Engine):
    """One GPU's share: that with the largest gradients to keep.

    Gradients go into a bucket as they come, and are averaged whenever the next does not fit; with overlap
    there are two buckets. Stage 1 waits for the last micro-batch, and keeps whole gradients until then.
    ``owned`` maps the parameters this GPU updates to how many of their elements; ``kept`` holds their
    averaged gradients.
    """

    def __init__(self, tape: Tape, workload: Workload, model: Model) -> None:
        super().__init__(tape, workload, model)
        self.partitions = workload.world.sharding == "zero2"
        self.compact = self.partitions and self.accumulation is not self.dtype
        self.layout = Layout(tuple(prod(leaf.shape) for leaf in self.leaves), self.count)
        self.rank = self.layout.heaviest()
        self.starts = self.layout.starts()
        self.owned = dict(self.layout.owned(self.rank))
        self.places = {id(leaf): place for place, leaf in enumerate(self.leaves)}
        self.buckets: list[Tensor] = []
        self.current = self.elements = 0
        self.waiting: list[int] = []
        self.room: Tensor | None = None
        self.accumulated: list[Tensor] = []
        self.kept: list[Tensor] = []
        self.last = False
        self._flatten()
        self._divide()
        for leaf in self.leaves:
            leaf.after = self._arrived

    def _flatten(self) -> None:
        """On the GPU, where there is room for the parameters twice (else this happens on the host)."""
        self.flat = self.take(self.layout.padded, self.dtype, "flatten", "flat_parameters")
        for parameter in self.parameters:
            parameter.storage = self.flat.storage

    def _divide(self) -> None:
        """The fp32 copy of a partition, and zeros in place of its gradient to set up the optimizer with."""
        size = self.layout.partition
        copy = self.take(size, self.dtype, "clone")
        if self.offloads:
            largest = max(self.layout.sizes)
            self.buffer = self.take(largest, self.dtype, "temp_grad_buffer", "communication")
            return
        self.masters.append(self.master(size))
        del copy
        _zeros = self.take(size, Dtype.FP32, "zeros")

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Backward, with gradients averaged on the way or, at stage 1, once the last pass is over."""
        self.last = last
        self.tape.gradients = None
        autograd.backward(loss)
        if not self.partitions and not last:
            return
        if not self.partitions and not self.overlap:
            for leaf in self.leaves:
                if leaf.grad is not None:
                    self._add(leaf)
        self._conclude()

    def _arrived(self, leaf: Leaf) -> None:
        """``process_gradients``, called with each gradient."""
        if not self.buckets:
            for _ in range(2 if self.overlap else 1):
                self.buckets.append(
                    self.take(self.zero.reduce_bucket, self.dtype, "ipg_buffer", "communication")
                )
            self.current = 0
        if self.partitions or (self.overlap and self.last):
            self._add(leaf)

    def _add(self, leaf: Leaf) -> None:
        """``reduce_independent_p_g_buckets_and_remove_grads``: a gradient too large for any bucket stays."""
        place = self.places[id(leaf)]
        size = self.layout.sizes[place]
        if self.elements + size > self.zero.reduce_bucket:
            self._reduce()
            if self.overlap:
                self.current = 1 - self.current
        if size <= self.zero.reduce_bucket:
            leaf.grad = self.buckets[self.current].alias(leaf.shape, leaf.strides)
        self.elements += size
        self.waiting.append(place)

    def _reduce(self) -> None:
        """``reduce_ipg_grads``: averages what waits, keeps what this GPU owns and drops the rest."""
        waiting, self.waiting = self.waiting, []
        self.elements = 0
        # The list of the bucket holds all gradients until it is cleared.
        _grads = [self.leaves[place].grad for place in waiting]
        self._average(waiting)
        for place in waiting:
            leaf = self.leaves[place]
            if place in self.owned:
                self._keep(place, leaf)
            elif self.partitions:
                leaf.grad = None

    def _average(self, waiting: list[int]) -> None:
        """``average_tensor``: slices of several owners are reduced in a buffer of their own."""
        slices = self.layout.slices(waiting, self.starts)
        if not self.zero.reduce_scatter:
            self._communicate([sum(size for _, size in slices)])
            return
        if self.compact:
            self._average_exactly(slices)
            return
        group: list[int] = []
        for size in merged(slices):
            group.append(size)
            if sum(group) > self.zero.reduce_bucket:
                self._communicate(group)
                group = []
        self._communicate(group)

    def _communicate(self, sizes: list[int]) -> tuple[Tensor | None, ...]:
        """``allreduce_bucket``: flattens several slices, and casts them if so asked."""
        total = sum(sizes)
        flat = self.take(total, self.dtype, "flatten") if len(sizes) > 1 else None
        cast = self.take(total, self.communication, "to") if self._casts and total else None
        return flat, cast

    @property
    def _casts(self) -> bool:
        return self.communication is not self.dtype

    def _average_exactly(self, slices: list[tuple[int, int]]) -> None:
        """Slices of this GPU are added to its fp32 partition (``_add_to_grad_partition_buffer``)."""
        mine = [size for rank, size in slices if rank == self.rank]
        sizes = merged(slices, alone=self.rank)
        if mine and not self.kept:
            self.kept = [self.take(self.layout.partition, self.accumulation, "zeros", "gradients")]
        _reduced = self._communicate(sizes)
        for size in mine:
            self.take(size, self.accumulation, "to")

    def _keep(self, place: int, leaf: Leaf) -> None:
        """``copy_grads_in_partition``: gradients are kept whole, or go to the host in fp32."""
        if self.compact:
            return
        if self.offloads:
            if self.last:
                self.norm(self.owned[place])
                self.take(self.owned[place], Dtype.FP32, "to")
                leaf.grad = None
            return
        if self.room is None:
            total = sum(self.layout.sizes[index] for index in self.owned)
            self.room = self.take(total, self.dtype, "grads_in_partition", "gradients")
        leaf.grad = self.room.alias(leaf.shape, leaf.strides)

    def _conclude(self) -> None:
        """``independent_gradient_partition_epilogue``: later micro-batches are added to the first one's."""
        self._reduce()
        if not self.compact and not self.offloads:
            owned = [self.leaves[place].grad for place in self.owned]
            self.accumulated = self.accumulated or [grad for grad in owned if grad is not None]
            if self.last:
                self.kept, self.accumulated = self.accumulated, []
            del owned
        self.buckets.clear()
        self.room = None
        for leaf in self.leaves:
            leaf.grad = None

    def update(self, stepper: Stepper) -> None:
        """``step``: norms, one fp32 gradient, the update; parameters are gathered in place."""
        if self.offloads:
            return
        for size in self.owned.values():
            self.norm(size)
        whole = self.compact or len(self.owned) == 1
        size = self.layout.partition
        flat = self.kept[0] if whole else self.take(size, self.dtype, "flatten", "gradients")
        converted = self.take(size, Dtype.FP32, "to", "gradients") if flat.dtype is not Dtype.FP32 else flat
        del flat
        self.kept = []
        (master,) = self.masters
        master.grad = converted
        stepper.step()
        master.grad = None
        del converted
