"""Muon: the momentum of each matrix within the blocks, made orthogonal by Newton–Schulz iterations in bf16.

Source: ``_single_tensor_muon`` and ``_zeropower_via_newtonschulz`` in torch/optim/_muon.py (2.9 and newer).
Embeddings, the head and vectors are left to AdamW, as its documentation asks.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Optimizer
from memplan.simulator.autograd import Leaf, each
from memplan.simulator.optimizers import adamw
from memplan.simulator.optimizers.states import States
from memplan.simulator.tensor import Tape, Tensor

ITERATIONS = 5


def update(optimizer: Optimizer, states: States, leaves: list[Leaf]) -> None:
    """Matrices of the blocks first, then everything else."""
    matrices = [leaf for leaf in leaves if is_hidden_matrix(leaf)]
    for leaf in each(matrices):
        states.keep(id(leaf), leaf.scope, "momentum_buffer", leaf.shape, states.dtype or leaf.dtype)
    change: Tensor | None = None
    for leaf in each(matrices):
        change = states.tape.empty(leaf.shape, leaf.dtype, "lerp")
        change = _orthogonal(states.tape, change)
    del change
    adamw.update(optimizer, states, [leaf for leaf in leaves if not is_hidden_matrix(leaf)])


def is_hidden_matrix(leaf: Leaf) -> bool:
    """Whether a parameter is a matrix of a block (blocks share one name, ``layers.*``)."""
    return len(leaf.shape) == 2 and "*" in leaf.scope.split(".")


def _orthogonal(tape: Tape, change: Tensor) -> Tensor:
    """Five products with the smaller side squared; each result lives until the next is there."""
    short, long = sorted(change.shape)
    result = change if change.dtype is Dtype.BF16 else tape.empty((short, long), Dtype.BF16, "bfloat16")
    gram: Tensor | None = None
    power: Tensor | None = None
    for _ in range(ITERATIONS):
        gram = tape.empty((short, short), Dtype.BF16, "mm")
        power = tape.empty((short, short), Dtype.BF16, "addmm")
        result = tape.empty((short, long), Dtype.BF16, "addmm")
    del gram, power
    return result
