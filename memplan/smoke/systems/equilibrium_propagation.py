"""Equilibrium propagation for real: a deep network of dense layers, and training steps by any method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from memplan.domain.setting import Settings, whole, word
from memplan.domain.trace import Phase
from memplan.mechanisms.equilibrium import Method, Network, States, learn, reference, settle
from memplan.smoke.meter import Meter, Named

NAME = "equilibrium_propagation"

BETA, RATE = 0.1, 1e-4
MOST_STEPS = 2
"""Steps of settling in a round: every further one does to memory what the second did."""


def start(settings: Settings) -> Trained:
    """The network with random weights, and a batch of noise."""
    return Trained(settings)


class Trained:
    """A network, and the batch that it is trained on in every round."""

    def __init__(self, settings: Settings) -> None:
        width, self.batch = whole(settings, "width"), whole(settings, "batch")
        self.method = Method(word(settings, "method"))
        self.momentum = bool(settings["momentum"]) or self.method is Method.AUTOGRAD
        self.steps = min(whole(settings, "steps"), MOST_STEPS)
        self.network = Network.dense((width,) * (whole(settings, "depth") + 1), seed=1)
        self.samples, self.targets = (torch.randn(self.batch, width) for _ in range(2))

    def tensors(self) -> Iterator[Named]:
        """Parameters and batch."""
        for number, layer in enumerate(self.network.layers):
            yield layer.weight, "weights", f"layers.{number}.weight", "parameter"
            yield layer.bias, "weights", f"layers.{number}.bias", "parameter"
        yield self.samples, "batch", "", "samples"
        yield self.targets, "batch", "", "targets"

    def step(self, meter: Any) -> None:
        """One training step; what it makes beside states, momentum and gradients has one name."""
        meter.scope.append(NAME)
        if self.method in (Method.BACKPROP, Method.CHECKPOINTED):
            self._backpropagate(meter)
        else:
            self._settle_and_learn(meter)
        meter.scope.pop()

    def _settle_and_learn(self, meter: Meter) -> None:
        by_hand = self.method is Method.MANUAL
        meter.enter(Phase.FORWARD)
        states = self.network.forward(self.samples)
        meter.name((state, "states", "", "addmm") for state in states)
        meter.leave(Phase.FORWARD)
        meter.enter(Phase.BACKWARD)
        self._settle(meter, states, by_hand=by_hand)
        meter.leave(Phase.BACKWARD)
        meter.enter(Phase.OPTIMIZER)
        (learn if by_hand else reference.learn)(self.network, self.samples, states, beta=BETA, rate=RATE)
        meter.leave(Phase.OPTIMIZER)

    def _settle(self, meter: Meter, states: States, *, by_hand: bool) -> None:
        velocity = [torch.zeros_like(state) for state in states] if self.momentum else None
        meter.name((buffer, "momentum", "", "zeros_like") for buffer in velocity or ())
        (settle if by_hand else reference.settle)(
            self.network,
            self.samples,
            states,
            target=self.targets,
            beta=BETA,
            steps=self.steps,
            momentum=0.5 if self.momentum else 0.0,
            velocity=velocity,
        )

    def _backpropagate(self, meter: Meter) -> None:
        depth = len(self.network.layers)
        segment = reference.usual_segment(depth) if self.method is Method.CHECKPOINTED else None
        meter.enter(Phase.FORWARD)
        parameters = reference.trained(self.network)
        loss = reference.loss(self.network, self.samples, self.targets, parameters, segment=segment)
        meter.leave(Phase.FORWARD)
        meter.enter(Phase.BACKWARD)
        found = self._gradients(loss, parameters)
        del loss
        meter.name((gradient, "gradients", "", "grad") for gradient in found)
        reference.descend(parameters, found, RATE)
        meter.leave(Phase.BACKWARD)

    def _gradients(self, loss: Tensor, parameters: list[Tensor]) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.autograd.grad(loss, parameters)
        return found
