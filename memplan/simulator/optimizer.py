"""Optimizer steps: states made on first use, and the temporaries of each implementation."""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Optimizer
from memplan.simulator.autograd import Leaf
from memplan.simulator.tensor import Storage, Tape, Tensor

STATES = {"adamw": 2, "adam": 2, "sgd": 0}
"""Tensors of a parameter's size kept per parameter, by optimizer."""


class Stepper:
    """One optimizer over the trainable parameters."""

    __slots__ = ("leaves", "optimizer", "states", "tape")

    def __init__(self, tape: Tape, optimizer: Optimizer, leaves: list[Leaf]) -> None:
        self.tape = tape
        self.optimizer = optimizer
        self.leaves = leaves
        self.states: list[Storage] = []

    def step(self) -> None:
        """Update every parameter that has a gradient.

        Foreach AdamW takes the square root of all second moments into new tensors at once
        (``_multi_tensor_adamw`` in torch/optim/adam.py); the for-loop makes a root and a denominator for each
        parameter, and holds the last denominator until it has the next; fused has no temporaries but
        keeps its step counters on the GPU.
        """
        updated = [leaf for leaf in self.leaves if leaf.grad is not None]
        if not STATES.get(self.optimizer.name, 2):
            return
        if not self.states:
            for leaf in updated:
                self._initialise(leaf)
        if self.optimizer.implementation == "foreach":
            _ = [self.tape.empty(leaf.shape, leaf.dtype, "sqrt") for leaf in updated]
        elif self.optimizer.implementation == "for_loop":
            denominator = None
            for leaf in updated:
                denominator = self._denominator(leaf)
            del denominator

    def _denominator(self, leaf: Leaf) -> Tensor:
        """``exp_avg_sq.sqrt() / correction`` (``_single_tensor_adam``)."""
        _root = self.tape.empty(leaf.shape, leaf.dtype, "sqrt")
        return self.tape.empty(leaf.shape, leaf.dtype, "div")

    def zero_grad(self) -> None:
        """Free gradients, or leave them in place when ``set_to_none`` is off."""
        if self.optimizer.set_to_none:
            for leaf in self.leaves:
                leaf.grad = None

    def _initialise(self, leaf: Leaf) -> None:
        if self.optimizer.implementation == "fused":
            self._state(leaf, "step", (), Dtype.FP32)
        for name in ("exp_avg", "exp_avg_sq"):
            self._state(leaf, name, leaf.shape, leaf.dtype)

    def _state(self, leaf: Leaf, name: str, shape: tuple[int, ...], dtype: Dtype) -> None:
        tag = ("optimizer_state", leaf.scope, name, shape, dtype)
        self.states.append(Storage(self.tape.trace, prod(shape) * dtype.itemsize, tag, once=True))
