"""The contrastive update of the weights, streamed: one layer at a time, and no set of all gradients.

θ ← θ - rate/(β·B) · (∂E/∂θ at the nudged states - ∂E/∂θ at the free ones). With β → 0 that is a step of
gradient descent on the mean of ½ |output - target|² (Scellier & Bengio 2017, theorem 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite

import torch
from torch import Tensor

from memplan.domain.errors import FieldError
from memplan.mechanisms.equilibrium.energy import error
from memplan.mechanisms.equilibrium.layers import Gradient
from memplan.mechanisms.equilibrium.network import Network


def learn(
    network: Network,
    x: Tensor,
    nudged: Sequence[Tensor],
    free: Sequence[Tensor] | None = None,
    *,
    beta: float,
    rate: float,
) -> None:
    """Move all weights in place. A dense layer's product goes straight into its weight: no gradient exists.

    Two tensors of the size of one state exist at a time (four with free states), at any depth; a convolution
    makes one of its weight's size as well.

    Args:
        x: (B, …) inputs. nudged: states settled with ``beta``.
        free: states of the free phase. None where that is ``network.forward(x)``: every prediction comes true
            there, so its gradients are zero and its states need not be kept. States settled with -beta are
            taken too, for the symmetric difference: then ``beta`` is twice that.
        beta: the difference between the nudges of the two phases.
        rate: the learning rate.

    Raises:
        FieldError: shapes or settings that make no sense.
    """
    scale = check(network, x, nudged, free, beta)
    if not (isfinite(rate) and rate > 0):
        raise FieldError(f"a learning rate of {rate}", expected="a positive number")
    with torch.no_grad():
        for number in range(len(network.layers)):
            _move(network, number, x, nudged, free, rate * scale)


def gradients(
    network: Network,
    x: Tensor,
    nudged: Sequence[Tensor],
    free: Sequence[Tensor] | None = None,
    *,
    beta: float,
) -> Iterator[Gradient]:
    """The same contrast as gradients, one layer after the other, lowest first, for an optimizer of one's own.

    Whoever drops each before asking for the next has one layer's gradient in memory. A layer's weights may be
    changed as soon as its gradient is there: no other layer's depends on them.

    Raises:
        FieldError: shapes or settings that make no sense.
    """
    scale = check(network, x, nudged, free, beta)
    return (_gradient(network, number, x, nudged, free, scale) for number in range(len(network.layers)))


def check(
    network: Network, x: Tensor, nudged: Sequence[Tensor], free: Sequence[Tensor] | None, beta: float
) -> float:
    """1/(β·B), once everything has been looked at.

    Raises:
        FieldError: shapes do not fit, numbers are not finite, or beta is 0.
    """
    network.check_input(x)
    network.check_states(nudged, x.shape[0])
    if free is not None:
        network.check_states(free, x.shape[0])
    if not isfinite(beta) or beta == 0:
        raise FieldError(f"a contrast of beta {beta}", expected="the nudge of the phase, not 0")
    return 1 / (beta * int(x.shape[0]))


def _move(
    network: Network,
    number: int,
    x: Tensor,
    nudged: Sequence[Tensor],
    free: Sequence[Tensor] | None,
    scale: float,
) -> None:
    """Both phases' errors are those of the weights before either of them moves these."""
    layer = network.layers[number]
    below = _below(network, number, x, nudged)
    found = error(network, number, below, nudged)
    if free is not None:
        other = _below(network, number, x, free)
        layer.move(error(network, number, other, free), other, -scale)
    layer.move(found, below, scale)


def _gradient(
    network: Network,
    number: int,
    x: Tensor,
    nudged: Sequence[Tensor],
    free: Sequence[Tensor] | None,
    scale: float,
) -> Gradient:
    with torch.no_grad():
        found = _of_phase(network, number, x, nudged)
        if free is not None:
            other = _of_phase(network, number, x, free)
            found.weight.sub_(other.weight)
            found.bias.sub_(other.bias)
        found.weight.mul_(scale)
        found.bias.mul_(scale)
    return found


def _of_phase(network: Network, number: int, x: Tensor, states: Sequence[Tensor]) -> Gradient:
    below = _below(network, number, x, states)
    return network.layers[number].gradient(error(network, number, below, states), below)


def _below(network: Network, number: int, x: Tensor, states: Sequence[Tensor]) -> Tensor:
    return x if number == 0 else network.activation.of(states[number - 1])
