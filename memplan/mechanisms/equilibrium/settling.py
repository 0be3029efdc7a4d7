"""Settling by hand-written gradients: states go down the energy, in place, and no graph is ever made."""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.equilibrium.energy import check, error
from memplan.mechanisms.equilibrium.network import Network, States

RATE, MOMENTUM, STEPS = 0.15, 0.5, 30


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
    """Move the states down the energy gradient, all of them at once in every step, in place.

    v ← momentum·v + ∂E/∂s, s ← s - rate·v, with ∂E/∂sₗ = eₗ - ρ′(sₗ)·Wₗ₊₁ᵀeₗ₊₁ and eₗ = sₗ - fₗ(ρ(sₗ₋₁)).
    The walk upwards needs each error twice and hands it on, so a step takes three tensors of the size of one
    state, at any depth. With momentum, v is as large as all states, and gone afterwards; without it there is
    no v. A phase without target and beta is free, one with them is nudged.

    Args:
        x: (B, …) inputs. target: (B, …) in the output's shape.
        states: changed in place. ``network.forward(x)`` is where a free phase ends.
        steps: each carries a nudge one layer further down.
        velocity: zeros to keep v in, shaped as the states; made here unless given.

    Raises:
        FieldError: shapes, types or settings that make no sense.
        InputError: the states diverged.
    """
    check(network, x, states, target, beta)
    check_settings(steps, rate, momentum)
    if velocity is not None:
        network.check_states(velocity, x.shape[0])
    elif momentum:
        velocity = [torch.zeros_like(state) for state in states]
    with torch.no_grad():
        for _ in range(steps):
            _step(network, x, states, target, beta, rate, momentum, velocity if momentum else None)
    check_settled(states, rate)


def _step(
    network: Network,
    x: Tensor,
    states: States,
    target: Tensor | None,
    beta: float,
    rate: float,
    momentum: float,
    velocity: States | None,
) -> None:
    """One step: every gradient is that of the states before it, though they change on the way.

    What is above a state is computed from ρ of it before it moves, and what is below has been carried along.
    """
    activation, last = network.activation, len(states) - 1
    own = error(network, 0, x, states)
    for number, state in enumerate(states[:-1]):
        value = activation.of(state)
        above = number + 1
        if velocity is None:
            if value is state:
                # The identity's value is the state itself, which is about to move.
                value = state.clone()
            state.sub_(own, alpha=rate)
            # No name may hold it while the next ones are made.
            del own
            own = error(network, above, value, states)
            pulled = network.layers[above].pull(own, state.shape)
            activation.scale(pulled, value)
            state.add_(pulled, alpha=rate)
        else:
            velocity[number].mul_(momentum).add_(own)
            del own
            own = error(network, above, value, states)
            pulled = network.layers[above].pull(own, state.shape)
            activation.scale(pulled, value)
            state.sub_(velocity[number].sub_(pulled), alpha=rate)
        del value, pulled
    if target is not None:
        own.add_(states[last], alpha=beta).add_(target, alpha=-beta)
    if velocity is not None:
        own = velocity[last].mul_(momentum).add_(own)
    states[last].sub_(own, alpha=rate)


def check_settings(steps: int, rate: float, momentum: float) -> None:
    """See that a settling can be made with these.

    Raises:
        FieldError: it cannot.
    """
    if steps < 1:
        raise FieldError(f"{steps} steps of settling", expected="at least 1")
    if not (isfinite(rate) and rate > 0):
        raise FieldError(f"a settling rate of {rate}", expected="a positive number")
    if not 0 <= momentum < 1:
        raise FieldError(f"a momentum of {momentum}", expected="at least 0 and below 1")


def check_settled(states: States, rate: float) -> None:
    """See that the states did not run away.

    Raises:
        InputError: some are not finite any more.
    """
    for number, state in enumerate(states, 1):
        if not torch.isfinite(state.sum()).item():
            raise InputError(
                f"settling diverged: state {number} of {len(states)} is not finite any more",
                hint=f"a rate below {rate}, or weights of a smaller norm",
            )
