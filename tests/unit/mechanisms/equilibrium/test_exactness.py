"""States, gradients and weights are those of autograd, to the rounding of fp64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memplan.mechanisms.equilibrium import (
    Activation,
    Method,
    Network,
    Training,
    energy,
    gradients,
    learn,
    reference,
    settle,
    step,
)
from tests.unit.mechanisms.equilibrium.networks import batch, convolutional, copied, dense

EXACT = 1e-12
NETWORKS = [(make, activation) for make in (dense, convolutional) for activation in Activation]


def furthest(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest difference, relative to the largest number (at least 1)."""
    return max(
        float((a - b).abs().max()) / max(1.0, float(b.abs().max())) for a, b in zip(one, other, strict=True)
    )


def twins(make: object, activation: Activation) -> tuple[Network, Network]:
    assert callable(make)
    return make(activation), make(activation)


@pytest.mark.parametrize(("make", "activation"), NETWORKS)
@pytest.mark.parametrize("beta", [0.0, 0.3, -0.3])
def test_the_energy_is_the_graphs(make: object, activation: Activation, beta: float) -> None:
    network, _ = twins(make, activation)
    x, target, states = batch(network)
    aim = target if beta else None
    graph = reference.energy(network, x, states, target=aim, beta=beta)
    assert energy(network, x, states, target=aim, beta=beta) == pytest.approx(float(graph), rel=EXACT)


@pytest.mark.parametrize(("make", "activation"), NETWORKS)
@pytest.mark.parametrize("beta", [0.0, 0.3, -0.3])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_states_settle_as_by_autograd(
    make: object, activation: Activation, beta: float, momentum: float
) -> None:
    network, _ = twins(make, activation)
    x, target, states = batch(network)
    aim = target if beta else None
    ours, theirs = copied(states), copied(states)
    for run, moved in ((settle, ours), (reference.settle, theirs)):
        run(network, x, moved, target=aim, beta=beta, steps=10, rate=0.1, momentum=momentum)
    assert furthest(ours, theirs) <= EXACT
    assert furthest(ours, states) > 0.01


@pytest.mark.parametrize(("make", "activation"), NETWORKS)
@pytest.mark.parametrize("with_free", [False, True])
def test_weights_move_as_by_autograd(make: object, activation: Activation, with_free: bool) -> None:
    ours, theirs = twins(make, activation)
    x, _, nudged = batch(ours)
    free = ours.forward(x) if with_free else None
    before = [parameter.clone() for parameter in ours.parameters()]
    contrast = list(gradients(ours, x, nudged, free, beta=0.2))
    learn(ours, x, nudged, free, beta=0.2, rate=0.1)
    reference.learn(theirs, x, nudged, free, beta=0.2, rate=0.1)
    moved, expected = list(ours.parameters()), list(theirs.parameters())
    assert furthest(moved, expected) <= EXACT
    assert furthest(moved, before) > 0.001
    flat = [tensor for found in contrast for tensor in (found.weight, found.bias)]
    by_hand = [old - 0.1 * gradient for old, gradient in zip(before, flat, strict=True)]
    assert furthest(by_hand, expected) <= EXACT


@pytest.mark.parametrize("make", [dense, convolutional])
def test_whole_steps_are_those_of_the_whole_energys_graph(make: object) -> None:
    ours, theirs = twins(make, Activation.TANH)
    x, target, _ = batch(ours)
    for _ in range(3):
        step(ours, x, target, Training(), Method.MANUAL)
        step(theirs, x, target, Training(), Method.AUTOGRAD)
    assert furthest(list(ours.parameters()), list(theirs.parameters())) <= EXACT


@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=6),
    size=st.integers(1, 5),
    beta=st.sampled_from([-0.5, 0.1, 0.5]),
    activation=st.sampled_from(list(Activation)),
)
@settings(max_examples=40, deadline=None)
def test_any_network_settles_and_learns_as_by_autograd(
    widths: list[int], size: int, beta: float, activation: Activation
) -> None:
    ours, theirs = (
        Network.dense(widths, activation=activation, seed=1, gain=0.5, dtype=torch.float64) for _ in range(2)
    )
    x, target, states = batch(ours, size)
    other = copied(states)
    settle(ours, x, states, target=target, beta=beta, steps=3)
    reference.settle(theirs, x, other, target=target, beta=beta, steps=3)
    assert furthest(states, other) <= EXACT
    learn(ours, x, states, beta=beta, rate=0.1)
    reference.learn(theirs, x, other, beta=beta, rate=0.1)
    assert furthest(list(ours.parameters()), list(theirs.parameters())) <= EXACT


@pytest.mark.parametrize("make", [dense, convolutional])
def test_the_forward_pass_is_where_the_free_phase_ends(make: object) -> None:
    network, _ = twins(make, Activation.TANH)
    x, _, _ = batch(network)
    rest = network.forward(x)
    assert energy(network, x, rest) == 0
    assert torch.equal(rest[-1], network.predict(x))
    still = copied(rest)
    settle(network, x, still, steps=5)
    assert all(torch.equal(a, b) for a, b in zip(rest, still, strict=True))
    settled = network.zeros(x.shape[0])
    settle(network, x, settled, steps=400, rate=0.2, momentum=0.7)
    assert furthest(settled, rest) < 1e-6


def test_small_nudges_learn_what_backpropagation_learns() -> None:
    nudged, plain = dense(), dense()
    x, target, _ = batch(nudged)
    states = nudged.forward(x)
    settle(nudged, x, states, target=target, beta=1e-5, steps=400)
    learn(nudged, x, states, beta=1e-5, rate=0.1)
    reference.backpropagate(plain, x, target, rate=0.1)
    assert furthest(list(nudged.parameters()), list(plain.parameters())) < 1e-5


def test_symmetric_nudges_are_nearer_to_backpropagation() -> None:
    one_sided, symmetric, plain = dense(), dense(), dense()
    x, target, _ = batch(plain)
    up, down = plain.forward(x), plain.forward(x)
    settle(plain, x, up, target=target, beta=0.02, steps=800)
    settle(plain, x, down, target=target, beta=-0.02, steps=800)
    learn(one_sided, x, up, beta=0.02, rate=0.1)
    learn(symmetric, x, up, down, beta=0.04, rate=0.1)
    reference.backpropagate(plain, x, target, rate=0.1)
    expected = list(plain.parameters())
    nearer, further = (furthest(list(item.parameters()), expected) for item in (symmetric, one_sided))
    assert nearer < further / 5


@pytest.mark.parametrize("run", [settle, reference.settle])
def test_buffers_may_be_given(run: Callable[..., None]) -> None:
    network = dense()
    x, target, states = batch(network)
    own, given = copied(states), copied(states)
    velocity = network.zeros(x.shape[0])
    run(network, x, own, target=target, beta=0.1, steps=4)
    run(network, x, given, target=target, beta=0.1, steps=4, velocity=velocity)
    assert all(torch.equal(a, b) for a, b in zip(own, given, strict=True))
    assert all(bool(buffer.any()) for buffer in velocity)


@pytest.mark.parametrize("segment", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("make", [dense, convolutional])
def test_checkpoints_change_nothing(make: object, segment: int) -> None:
    whole, parts = twins(make, Activation.TANH)
    x, target, _ = batch(whole)
    reference.backpropagate(whole, x, target, rate=0.1)
    reference.backpropagate(parts, x, target, rate=0.1, segment=segment)
    assert furthest(list(parts.parameters()), list(whole.parameters())) <= EXACT
