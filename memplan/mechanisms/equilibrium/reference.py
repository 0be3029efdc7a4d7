"""The same training with autograd's graphs, to be compared with: in results and in memory.

``settle`` and ``learn`` build the graph of the whole energy, which holds two tensors per layer until its
gradients are there; ``backpropagate`` trains the same network without states, with or without checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from memplan.domain.errors import FieldError
from memplan.mechanisms.equilibrium import contrast
from memplan.mechanisms.equilibrium.energy import check
from memplan.mechanisms.equilibrium.network import Network, States
from memplan.mechanisms.equilibrium.settling import MOMENTUM, RATE, STEPS, check_settings, check_settled


def energy(
    network: Network,
    x: Tensor,
    states: Sequence[Tensor],
    *,
    target: Tensor | None = None,
    beta: float = 0.0,
    parameters: Sequence[Tensor] | None = None,
) -> Tensor:
    """The energy as a graph, a tensor without sides.

    ``parameters`` stand for the network's own, in its order: those whose gradient is asked for.
    """
    total = x.new_zeros(())
    for number, state in enumerate(states):
        below = x if number == 0 else network.activation.of(states[number - 1])
        difference = state - _predict(network, number, below, parameters)
        total = total + difference.pow(2).sum()
    if target is not None:
        total = total + beta * (states[-1] - target).pow(2).sum()
    return 0.5 * total


def settle(
    network: Network,
    x: Tensor,
    states: States,
    *,
    target: Tensor | None = None,
    beta: float = 0.0,
    steps: int = STEPS,
    rate: float = RATE,
    momentum: float = MOMENTUM,
    velocity: States | None = None,
) -> None:
    """As ``settling.settle``, with the gradients of all states from one graph of the whole energy.

    Raises:
        FieldError: shapes, types or settings that make no sense.
        InputError: the states diverged.
    """
    check(network, x, states, target, beta)
    check_settings(steps, rate, momentum)
    if velocity is None:
        velocity = [torch.zeros_like(state) for state in states]
    else:
        network.check_states(velocity, x.shape[0])
    for _ in range(steps):
        leaves = [state.detach().requires_grad_() for state in states]
        total = energy(network, x, leaves, target=target, beta=beta)
        found = torch.autograd.grad(total, leaves)
        del total, leaves
        for state, buffer, gradient in zip(states, velocity, found, strict=True):
            state.sub_(buffer.mul_(momentum).add_(gradient), alpha=rate)
        del found, gradient
    check_settled(states, rate)


def learn(
    network: Network,
    x: Tensor,
    nudged: Sequence[Tensor],
    free: Sequence[Tensor] | None = None,
    *,
    beta: float,
    rate: float,
) -> None:
    """As ``contrast.learn``, with the gradients of all weights at once, from one graph of the energies.

    Raises:
        FieldError: shapes or settings that make no sense.
    """
    scale = contrast.check(network, x, nudged, free, beta)
    parameters = trained(network)
    total = energy(network, x, nudged, parameters=parameters)
    if free is not None:
        total = total - energy(network, x, free, parameters=parameters)
    found = torch.autograd.grad(total, parameters)
    del total
    descend(parameters, found, rate * scale)


def trained(network: Network) -> list[Tensor]:
    """The parameters as leaves of a graph, in the network's own memory."""
    return [parameter.detach().requires_grad_() for parameter in network.parameters()]


def backpropagate(
    network: Network, x: Tensor, target: Tensor, *, rate: float, segment: int | None = None
) -> None:
    """One step of gradient descent on ``loss``.

    Raises:
        FieldError: shapes that do not fit, or a segment of no layers.
    """
    parameters = trained(network)
    total = loss(network, x, target, parameters, segment=segment)
    found = torch.autograd.grad(total, parameters)
    del total
    descend(parameters, found, rate)


def loss(
    network: Network, x: Tensor, target: Tensor, parameters: Sequence[Tensor], *, segment: int | None = None
) -> Tensor:
    """The mean over the batch of ½ |output - target|², as a graph that keeps one tensor per layer.

    With a ``segment``, so many layers are run again at a time when their gradients are needed, and of each
    such segment only what goes into it is kept. ``usual_segment`` balances the two.

    Raises:
        FieldError: shapes that do not fit, or a segment of no layers.
    """
    network.check_input(x)
    network.check_target(target, x.shape[0])
    if segment is not None and segment < 1:
        raise FieldError(f"segments of {segment} layers", expected="at least 1")
    count = len(network.layers)
    output = x
    for start in range(0, count, segment or count):
        arguments = (network, output, parameters, start, min(start + (segment or count), count))
        output = _run(*arguments) if segment is None else _run_again(*arguments)
    del arguments
    return (output - target).pow(2).sum() / (2 * x.shape[0])


def usual_segment(layers: int) -> int:
    """√L, rounded up: as many inputs of segments are kept as a segment has layers."""
    return isqrt(layers - 1) + 1


def _run(network: Network, value: Tensor, parameters: Sequence[Tensor], start: int, end: int) -> Tensor:
    """What the last of some layers predicts; ``value`` is a state, but for the input."""
    for number in range(start, end):
        below = value if number == 0 else network.activation.of(value)
        value = _predict(network, number, below, parameters)
    return value


def _run_again(network: Network, value: Tensor, parameters: Sequence[Tensor], start: int, end: int) -> Tensor:
    result: Tensor = checkpoint(
        _run, network, value, parameters, start, end, use_reentrant=False, preserve_rng_state=False
    )
    return result


def _predict(network: Network, number: int, value: Tensor, parameters: Sequence[Tensor] | None) -> Tensor:
    layer = network.layers[number]
    if parameters is not None:
        layer = layer.of(*parameters[2 * number : 2 * number + 2])
    return layer.predict(value)


def descend(parameters: Sequence[Tensor], found: Sequence[Tensor], rate: float) -> None:
    """Move the parameters in place, all gradients being there at once."""
    with torch.no_grad():
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.sub_(gradient, alpha=rate)
