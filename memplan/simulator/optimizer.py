"""The optimizer's part of a step: clipping, master copies, the update, and freeing gradients."""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Optimizer, Precision
from memplan.simulator.autograd import Leaf, each
from memplan.simulator.optimizers import OPTIMIZERS, adamw
from memplan.simulator.optimizers.states import States
from memplan.simulator.tensor import Parameter, Tape, Tensor

SIMULATED = frozenset(OPTIMIZERS)
"""Names of the optimizers that are simulated."""

CHUNK = 65536
"""Elements one block of a foreach kernel handles (``kChunkSize`` in aten's MultiTensorApply.cuh)."""


class Stepper:
    """One optimizer over the trainable parameters.

    With masters it works on copies of the parameters in ``precision.master``, made before the first step.
    """

    __slots__ = ("leaves", "masters", "optimizer", "states", "tape")

    def __init__(
        self, tape: Tape, optimizer: Optimizer, leaves: list[Leaf], precision: Precision | None = None
    ) -> None:
        precision = precision or Precision()
        self.tape = tape
        self.optimizer = optimizer
        self.leaves = leaves
        self.states = States(tape, precision.optimizer_state)
        self.masters = self._copies(precision.master) if precision.master else None

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        updated = [leaf for leaf in self.leaves if leaf.grad is not None]
        if self.optimizer.clipping:
            self._clip(updated)
        run = OPTIMIZERS.get(self.optimizer.name, adamw.update)
        if self.masters is None:
            run(self.optimizer, self.states, updated)
            return
        masters = [self.masters[id(leaf)] for leaf in updated]
        for leaf, master in zip(each(updated), masters, strict=True):
            master.grad = self._as_master(leaf, master)
        run(self.optimizer, self.states, masters)
        for leaf, master in zip(updated, masters, strict=True):
            if master is not leaf:
                master.grad = None

    def zero_grad(self) -> None:
        """Free gradients, or leave them in place when ``set_to_none`` is off."""
        if self.optimizer.set_to_none:
            for leaf in self.leaves:
                leaf.grad = None

    def _copies(self, dtype: Dtype) -> dict[int, Leaf]:
        """A master for each parameter of another dtype; the others are their own."""
        found = {}
        for leaf in each(self.leaves):
            found[id(leaf)] = leaf
            if leaf.dtype is not dtype:
                copy = Parameter(self.tape, leaf.shape, dtype, "optimizer_state", leaf.scope)
                found[id(leaf)] = Leaf(copy, leaf.scope, hold=True)
        return found

    def _as_master(self, leaf: Leaf, master: Leaf) -> Tensor | None:
        """The gradient in the master's dtype: a copy unless it has it."""
        gradient = leaf.grad
        if gradient is None or gradient.dtype is master.dtype:
            return gradient
        return self.tape.empty(leaf.shape, master.dtype, "float")

    def _clip(self, leaves: list[Leaf]) -> None:
        """``clip_grad_norm_``: norms of all gradients at once, which are then scaled in place.

        Each chunk of each tensor has a partial sum, and every tensor as many as the largest
        (``foreach_tensor_norm_cuda`` in aten/src/ATen/native/cuda/ForeachReduceOp.cu, ``_get_total_norm`` in
        torch/nn/utils/clip_grad.py).
        """
        sizes: dict[Dtype, list[int]] = {}
        for leaf in leaves:
            if leaf.grad is not None:
                same = [prod(leaf.shape)] * self.tape.alike(leaf.layer)
                sizes.setdefault(leaf.grad.dtype, []).extend(same)
        norms = []
        for dtype, found in sizes.items():
            partial = self.tape.empty((len(found) * -(-max(found) // CHUNK),), Dtype.FP32, "partial_norms")
            norms.append(self.tape.empty((len(found),), dtype, "norms"))
            del partial
        _stacked = self.tape.empty((sum(map(len, sizes.values())),), Dtype.FP32, "stack")
        _total = self.tape.empty((), Dtype.FP32, "norm")
