"""Four ways to make one training step: the one this package is for, and those it is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from memplan.mechanisms.equilibrium import reference
from memplan.mechanisms.equilibrium.contrast import learn
from memplan.mechanisms.equilibrium.network import Network
from memplan.mechanisms.equilibrium.settling import MOMENTUM, RATE, STEPS, settle


class Method(StrEnum):
    """Where gradients come from."""

    MANUAL = "manual"
    AUTOGRAD = "autograd"
    BACKPROP = "backprop"
    CHECKPOINTED = "checkpointed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Settings of a step: nudge, steps of settling, their rate and momentum, and the weights' learning rate.

    Backpropagation uses the last one only.
    """

    beta: float = 0.1
    steps: int = STEPS
    settling_rate: float = RATE
    momentum: float = MOMENTUM
    rate: float = 0.05


def step(network: Network, x: Tensor, target: Tensor, training: Training, method: Method) -> None:
    """One training step on a batch: ``x`` (B, …), ``target`` (B, …) in the output's shape.

    The free phase of equilibrium propagation is the forward pass, at which the energy is zero: its states
    become those of the nudged phase, and its gradients need not be taken off.

    Raises:
        FieldError: shapes, types or settings that make no sense.
        InputError: settling diverged.
    """
    if method in (Method.BACKPROP, Method.CHECKPOINTED):
        segment = reference.usual_segment(len(network.layers)) if method is Method.CHECKPOINTED else None
        reference.backpropagate(network, x, target, rate=training.rate, segment=segment)
        return
    settling, contrast = (settle, learn) if method is Method.MANUAL else (reference.settle, reference.learn)
    states = network.forward(x)
    settling(
        network,
        x,
        states,
        target=target,
        beta=training.beta,
        steps=training.steps,
        rate=training.settling_rate,
        momentum=training.momentum,
    )
    contrast(network, x, states, beta=training.beta, rate=training.rate)
