"""The same training with autograd's graphs, op by op: ``reference.py`` of the mechanism."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.programs.equilibrium_network import Network, Sizes
from memplan.programs.equilibrium_states import forward, momentum
from memplan.simulator import activations, layout, ops
from memplan.simulator.autograd import Gradients, Leaf, Node, backward, begin, require_grad
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.tensor import Tape, Tensor


def settle_and_learn(tape: Tape, network: Network, sizes: Sizes) -> None:
    """Every step of settling, and the contrast, by a graph of the whole energy."""
    states = forward(tape, network)
    tape.trace.enter(Phase.BACKWARD)
    velocity = momentum(tape, states)
    for _ in range(sizes.steps):
        leaves = [require_grad(state.detach(), "states") for state in states]
        nodes = [leaf.node for leaf in leaves]
        tape.grad_enabled = True
        total = _energy(tape, network, leaves, nudged=True)
        tape.grad_enabled = False
        backward(total)
        del total, leaves
        # The states move in place, and the gradients go.
        del nodes
    del velocity
    tape.trace.enter(Phase.OPTIMIZER)
    tape.component = "temporaries"
    leaves_of_weights = network.train()
    tape.grad_enabled = True
    total = _energy(tape, network, states, nudged=False)
    backward(total)
    del total
    _descend(tape, network, leaves_of_weights)


def backpropagate(tape: Tape, network: Network, segment: int | None) -> None:
    """Forward, backward, and the update; of ``segment`` layers at a time only the input is kept."""
    tape.trace.enter(Phase.FORWARD)
    tape.component = "activations"
    leaves = network.train()
    tape.grad_enabled = True
    count = len(network.layers)
    output = network.samples
    for start in range(0, count, segment or count):
        output = _stretch(network, output, start, min(start + (segment or count), count), again=bool(segment))
    total = ops.mul_scalar(_sum(ops.square(ops.sub(output, network.targets))))
    del output
    tape.trace.enter(Phase.BACKWARD)
    backward(total)
    del total
    _descend(tape, network, leaves)


def _stretch(network: Network, value: Tensor, start: int, end: int, *, again: bool) -> Tensor:
    def run(value: Tensor) -> Tensor:
        for number in range(start, end):
            below = value if number == 0 else activations.tanh(value)
            value = network.predict(number, below)
        return value

    return checkpoint(run, value) if again else run(value)


def _energy(tape: Tape, network: Network, states: Sequence[Tensor], *, nudged: bool) -> Tensor:
    """``reference.energy``: of every layer a difference and an activation stay in the graph."""
    tape.component = "temporaries" if tape.trace.phases[-1][1] is Phase.OPTIMIZER else "activations"
    total = tape.empty((), Dtype.FP32, "new_zeros")
    for number, state in enumerate(states):
        below = network.samples if number == 0 else activations.tanh(states[number - 1])
        total = ops.add(total, _sum(ops.square(ops.sub(state, network.predict(number, below)))))
    if nudged:
        total = ops.add(total, ops.mul_scalar(_sum(ops.square(ops.sub(states[-1], network.targets)))))
    return ops.mul_scalar(total)


def _sum(x: Tensor) -> Tensor:
    """``x.sum()``; backward expands the gradient, which takes no memory."""
    shape = x.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        return (gradient.alias(shape, layout.expand((), (), shape)),)

    return ops.finish(begin(run, x), x.tape.empty((), x.dtype, "sum"))


def _descend(tape: Tape, network: Network, leaves: list[Leaf]) -> None:
    """All gradients are there, and the parameters move in place."""
    tape.grad_enabled = False
    for leaf in leaves:
        leaf.grad = None
    network.rest()
