"""Adam and AdamW of PyTorch: two states a parameter, and a root of one of them."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Optimizer
from memplan.simulator.autograd import Leaf, each
from memplan.simulator.optimizers.states import States
from memplan.simulator.tensor import Tensor


def update(optimizer: Optimizer, states: States, leaves: list[Leaf]) -> None:
    """Foreach takes the square root of all second moments into new tensors at once.

    The for-loop makes a root and a denominator for each parameter, and holds the last denominator until it
    has the next; fused has no temporaries but keeps its step counters on the GPU.
    Source: ``_multi_tensor_adam``, ``_single_tensor_adam`` and ``_init_group`` in torch/optim/adam.py.
    """
    tape = states.tape
    for leaf in each(leaves):
        dtype = states.dtype or leaf.dtype
        if optimizer.implementation == "fused":
            states.keep(id(leaf), leaf.scope, "step", (), Dtype.FP32)
        states.keep(id(leaf), leaf.scope, "exp_avg", leaf.shape, dtype)
        states.keep(id(leaf), leaf.scope, "exp_avg_sq", leaf.shape, dtype)
    if optimizer.implementation == "foreach":
        roots: list[Tensor] = []
        for group in _groups(leaves):
            roots = [tape.empty(leaf.shape, states.dtype or leaf.dtype, "sqrt") for leaf in each(group)]
        del roots
    elif optimizer.implementation == "for_loop":
        denominator = None
        for leaf in each(leaves):
            denominator = _denominator(states, leaf)
        del denominator


def _groups(leaves: list[Leaf]) -> list[list[Leaf]]:
    """Parameters of one dtype together, the dtype met last first: a hash map of libstdc++ grows at its front.

    Source: ``_group_tensors_by_first_tensors_device_and_dtype`` in aten's ForeachUtils.h. The roots of one
    group live until the next has its own.
    """
    found: dict[Dtype, list[Leaf]] = {}
    for leaf in leaves:
        found.setdefault(leaf.dtype, []).append(leaf)
    return list(reversed(found.values()))


def _denominator(states: States, leaf: Leaf) -> Tensor:
    """``(exp_avg_sq.sqrt() / bias_correction2_sqrt).add_(eps)``."""
    dtype = states.dtype or leaf.dtype
    _root = states.tape.empty(leaf.shape, dtype, "sqrt")
    return states.tape.empty(leaf.shape, dtype, "div")
