"""The transient of settling and learning is the same at every depth; autograd's grows with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch

from memplan.mechanisms.equilibrium import (
    Convolution,
    Method,
    Network,
    Training,
    energy,
    learn,
    reference,
    settle,
    step,
)
from tests.unit.mechanisms.equilibrium.networks import batch, convolutional, transient

WIDTH, BATCH = 64, 32
STATE = BATCH * WIDTH * 4
DEPTHS = (2, 10, 100)


def network(depth: int) -> Network:
    return Network.dense((WIDTH,) * (depth + 1), seed=1)


def settling(depth: int, run: Callable[..., None], momentum: float) -> int:
    """What settling takes beside weights, states, and momentum."""
    made = network(depth)
    x, target, _ = batch(made, BATCH)
    states = made.forward(x)
    settled = partial(run, made, x, states, target=target, beta=0.1, steps=2, momentum=momentum)
    return transient(settled) - (depth * STATE if momentum else 0)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_settling_takes_three_states_at_every_depth(momentum: float) -> None:
    assert [settling(depth, settle, momentum) for depth in DEPTHS] == [3 * STATE] * len(DEPTHS)


def test_the_graph_of_the_whole_energy_grows_by_two_states_per_layer() -> None:
    few, many = (settling(depth, reference.settle, 0.5) for depth in (10, 100))
    assert 2 * STATE <= (many - few) / 90 <= 2 * STATE + 64


def test_learning_takes_two_states_and_no_gradients() -> None:
    def taken(depth: int) -> int:
        made = network(depth)
        x, target, _ = batch(made, BATCH)
        states = made.forward(x)
        settle(made, x, states, target=target, beta=0.1, steps=2)
        return transient(lambda: learn(made, x, states, beta=0.1, rate=0.1))

    assert {taken(depth) for depth in DEPTHS} == {2 * STATE + WIDTH * 4}


def test_the_energy_takes_two_states() -> None:
    def taken(depth: int) -> int:
        made = network(depth)
        x, target, states = batch(made, BATCH)
        return transient(lambda: energy(made, x, states, target=target, beta=0.1))

    assert max(taken(depth) for depth in DEPTHS) <= 2 * STATE + 64


def test_settling_convolutions_takes_the_same_at_every_depth() -> None:
    def taken(depth: int) -> int:
        weight, bias = torch.full((3, 3, 3, 3), 0.05), torch.zeros(3)
        layers = (Convolution(weight=weight, bias=bias, padding=1),) * depth
        made = Network(layers=layers, input=(3, 16, 16))
        x, target, states = batch(made, 8)
        return transient(partial(settle, made, x, states, target=target, beta=0.1, steps=2, momentum=0.0))

    assert taken(3) == taken(10) == taken(40)


def test_convolutions_do_not_grow_with_the_number_of_steps() -> None:
    made = convolutional()
    x, target, states = batch(made)
    once, often = (
        transient(partial(settle, made, x, states, target=target, beta=0.1, steps=steps, rate=0.01))
        for steps in (1, 5)
    )
    assert once == often


def test_a_step_by_hand_takes_states_and_momentum_and_no_gradients() -> None:
    """The honest totals: what is flat is the transient alone, and checkpoints keep far less than states."""
    depth = 100

    def taken(method: Method) -> int:
        made = network(depth)
        x, target, _ = batch(made, BATCH)
        return transient(lambda: step(made, x, target, Training(steps=2), method))

    weights = depth * (WIDTH * WIDTH + WIDTH) * 4
    assert taken(Method.MANUAL) == 2 * depth * STATE + 3 * STATE
    assert taken(Method.AUTOGRAD) > 4 * depth * STATE
    assert weights < taken(Method.CHECKPOINTED) < weights + 40 * STATE
    assert taken(Method.BACKPROP) > weights
