"""Settling and learning by hand: what ``settling.py`` and ``contrast.py`` of the mechanism allocate."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.programs.equilibrium_network import Network, Sizes
from memplan.simulator import ops
from memplan.simulator.tensor import HOST, Tape, Tensor


def run(tape: Tape, network: Network, sizes: Sizes) -> None:
    """The free phase, the nudged one, and the contrast."""
    states = forward(tape, network)
    tape.trace.enter(Phase.BACKWARD)
    velocity = momentum(tape, states) if sizes.momentum else []
    tape.component = "temporaries"
    for _ in range(sizes.steps):
        _step(tape, network, states, scaled=sizes.momentum)
    # The momentum is gone when settling returns.
    del velocity
    tape.trace.enter(Phase.OPTIMIZER)
    _learn(network, states)


def forward(tape: Tape, network: Network) -> list[Tensor]:
    """``Network.forward``: what every layer predicts, one activation at a time in between."""
    tape.trace.enter(Phase.FORWARD)
    tape.component = "states"
    states = [network.predict(0, network.samples)]
    for number in range(1, len(network.layers)):
        tape.component = "activations"
        below = ops.like(states[-1], "tanh")
        tape.component = "states"
        states.append(network.predict(number, below))
        del below
    return states


def momentum(tape: Tape, states: list[Tensor]) -> list[Tensor]:
    """``torch.zeros_like`` of every state."""
    tape.component = "momentum"
    return [ops.like(state, "zeros_like") for state in states]


def _step(tape: Tape, network: Network, states: list[Tensor], *, scaled: bool) -> None:
    """A step of settling: an error is handed on; the next one, and what it pulls, are made beside a tanh.

    Sums and products go into tensors that are there. ``scaled`` says that momentum is among them.
    """
    own = network.predict(0, network.samples)
    for number, state in enumerate(states[:-1]):
        below = ops.like(state, "tanh")
        if scaled:
            _factor(tape)
        del own
        own = network.predict(number + 1, below)
        # error @ weight
        tape.take_workspace()
        pulled = ops.like(own, "mm")
        del below, pulled
    if scaled:
        _factor(tape)
    del own


def _factor(tape: Tape) -> None:
    """``mul_`` by a number: a CPU makes a tensor of it, and casts that."""
    if tape.capability == HOST:
        number = tape.empty((), Dtype.FP64, "number")
        cast = tape.empty((), Dtype.FP32, "to")
        del number, cast


def _learn(network: Network, states: list[Tensor]) -> None:
    """The contrast: of every layer an error, and its sum for the bias; the product goes into the weight."""
    tape = network.samples.tape
    for number, (_, bias) in enumerate(network.layers):
        below = network.samples if number == 0 else ops.like(states[number - 1], "tanh")
        error = network.predict(number, below)
        tape.take_workspace()
        total = ops.like(bias, "sum")
        del below, error, total
