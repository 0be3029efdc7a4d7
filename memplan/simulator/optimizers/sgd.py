"""Stochastic gradient descent: one state a parameter with momentum, none without, no temporaries."""

from __future__ import annotations

from memplan.domain.workload import Optimizer
from memplan.simulator.autograd import Leaf, each
from memplan.simulator.optimizers.states import States


def update(optimizer: Optimizer, states: States, leaves: list[Leaf]) -> None:
    """The momentum starts as a copy of the first gradient (``_multi_tensor_sgd`` in torch/optim/sgd.py)."""
    if optimizer.momentum:
        for leaf in each(leaves):
            states.keep(id(leaf), leaf.scope, "momentum_buffer", leaf.shape, states.dtype or leaf.dtype)
