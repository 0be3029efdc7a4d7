"""The energy itself, layer by layer: what settling and learning descend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memplan.domain.errors import FieldError
from memplan.mechanisms.equilibrium.network import Network


def energy(
    network: Network,
    x: Tensor,
    states: Sequence[Tensor],
    *,
    target: Tensor | None = None,
    beta: float = 0.0,
) -> float:
    """½ Σₗ |sₗ - fₗ(ρ(sₗ₋₁))|² + β·½ |s_L - target|², summed over the batch; s₀ = x without ρ.

    Three tensors of the size of one state exist at a time, at any depth.

    Raises:
        FieldError: shapes or types do not fit, or ``beta`` comes without a target.
    """
    check(network, x, states, target, beta)
    with torch.no_grad():
        total = error(network, 0, x, states).square_().sum()
        for number in range(1, len(states)):
            value = network.activation.of(states[number - 1])
            total += error(network, number, value, states).square_().sum()
        if target is not None:
            total += (states[-1] - target).square_().sum() * beta
    return float(total) / 2


def error(network: Network, number: int, value: Tensor, states: Sequence[Tensor]) -> Tensor:
    """What a layer fails to predict of its state, from the value below: a new tensor of the state's shape."""
    predicted = network.layers[number].predict(value)
    return torch.sub(states[number], predicted, out=predicted)


def check(network: Network, x: Tensor, states: Sequence[Tensor], target: Tensor | None, beta: float) -> None:
    """See that input, states and target fit the network.

    Raises:
        FieldError: they do not, numbers are not finite, or ``beta`` and a target do not come together.
    """
    network.check_input(x)
    network.check_states(states, x.shape[0])
    if (target is None) != (beta == 0):
        said = f"beta {beta} without a target" if target is None else "a target that beta 0 has no use for"
        raise FieldError(said, expected="a target and beta for a nudged phase, neither for a free one")
    if target is not None:
        network.check_target(target, x.shape[0])
    if not -1 < beta < 1:
        raise FieldError(f"beta {beta}", expected="between -1 and 1: 0 is free, small is a nudge")
