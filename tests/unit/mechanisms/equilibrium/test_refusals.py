"""What makes no sense is refused with what was expected, and nothing has moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.equilibrium import Convolution, Dense, Network, gradients, learn, reference, settle
from tests.unit.mechanisms.equilibrium.networks import batch, copied, dense

NAN = float("nan")


def layer(out: int, into: int) -> Dense:
    return Dense(weight=torch.ones(out, into), bias=torch.zeros(out))


def window(**settings: Any) -> Convolution:
    return Convolution(weight=torch.ones(2, 1, 3, 3), bias=torch.zeros(2), **settings)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Network(layers=(), input=(3,)), "without layers"),
        (lambda: Network(layers=(layer(2, 3),), input=()), "samples of shape"),
        (lambda: Network(layers=(layer(2, 3),), input=(0,)), "samples of shape"),
        (
            lambda: Network(layers=(layer(2, 3), layer(2, 3)), input=(3,)),
            "layer 2: a dense layer of 3 inputs",
        ),
        (lambda: Network(layers=(window(),), input=(3, 8, 8)), "layer 1: a convolution of 1 channels"),
        (lambda: Network(layers=(window(),), input=(1, 2, 8)), "is larger than"),
        (lambda: Network(layers=(layer(3, 3), dense().layers[0]), input=(3,)), "layer 2 is torch.float64"),
        (lambda: Network.dense((3,)), "make no layer"),
        (lambda: Network.dense(()), "of nothing"),
        (lambda: Network.dense((3, 0, 2)), "make no layer"),
        (lambda: Network.dense((3, True)), "make no layer"),
        (lambda: Network.dense((3, 2.5)), "make no layer"),  # type: ignore[arg-type]
        (lambda: Network.dense((3, 2)).zeros(-1), "a batch of -1 samples"),
        (lambda: layer(0, 3), "the weight's shape is"),
        (lambda: Dense(weight=torch.ones(3), bias=torch.ones(3)), "the weight's shape is"),
        (lambda: Dense(weight=torch.ones(3, 2), bias=torch.ones(2)), "the bias' shape is"),
        (lambda: Dense(weight=torch.ones(3, 2), bias=torch.ones(3).double()), "Dense: weight torch.float32"),
        (lambda: Dense(weight=torch.ones(3, 2).int(), bias=torch.ones(3).int()), "torch.int32"),
        (lambda: window(stride=0), "leads nowhere"),
        (lambda: window(padding=-1), "leads nowhere"),
    ],
)
def test_networks_that_do_not_hold_together(make: Callable[[], object], said: str) -> None:
    with pytest.raises(FieldError, match=said) as caught:
        make()
    assert caught.value.expected or caught.value.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": torch.ones(4, 6).double()}, "an input of shape"),
        ({"x": torch.ones(0, 5).double()}, "an input of shape"),
        ({"x": torch.ones(4, 5)}, "an input of torch.float32"),
        ({"x": torch.full((4, 5), NAN).double()}, "the input holds numbers that are not finite"),
        ({"target": torch.ones(4, 2).double()}, "a target of"),
        ({"target": torch.ones(4, dtype=torch.int64)}, "a target of torch.int64"),
        ({"target": torch.full((4, 3), float("inf")).double()}, "the target holds numbers"),
        ({"target": None}, "without a target"),
        ({"beta": 0.0}, "has no use for"),
        ({"beta": 1.0}, "beta 1.0"),
        ({"beta": NAN}, "beta nan"),
        ({"steps": 0}, "0 steps"),
        ({"rate": 0.0}, "a settling rate of 0.0"),
        ({"rate": NAN}, "a settling rate of nan"),
        ({"momentum": 1.0}, "a momentum of 1.0"),
        ({"momentum": -0.1}, "a momentum of -0.1"),
        ({"states": []}, "0 states"),
        ({"velocity": []}, "0 states"),
        ({"states": [torch.ones(4, 2).double()] * 4}, "state 1 is"),
    ],
)
@pytest.mark.parametrize("run", [settle, reference.settle])
def test_settings_that_make_no_sense(run: Callable[..., None], change: dict[str, Any], said: str) -> None:
    network = dense()
    x, target, states = batch(network)
    before = copied(states)
    given = {"x": x, "states": states, "target": target, "beta": 0.1, **change}
    with pytest.raises(FieldError, match=said) as caught:
        run(network, **given)
    assert caught.value.expected or caught.value.hint
    assert all(torch.equal(a, b) for a, b in zip(states, before, strict=True))


@pytest.mark.parametrize("run", [settle, reference.settle])
def test_states_that_run_away_are_told_with_a_smaller_rate(run: Callable[..., None]) -> None:
    network = dense()
    x, _, states = batch(network)
    with pytest.raises(InputError, match="settling diverged") as caught:
        run(network, x, states, steps=2_000, rate=50.0)
    assert "50.0" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"beta": 0.0}, "a contrast of beta"),
        ({"beta": NAN}, "a contrast of beta"),
        ({"free": []}, "0 states"),
    ],
)
def test_contrasts_that_make_no_sense(change: dict[str, Any], said: str) -> None:
    network = dense()
    x, _, states = batch(network)
    given: dict[str, Any] = {"free": None, "beta": 0.1, **change}
    with pytest.raises(FieldError, match=said):
        gradients(network, x, states, **given)
    for run in (learn, reference.learn):
        with pytest.raises(FieldError, match=said):
            run(network, x, states, rate=0.1, **given)
    with pytest.raises(FieldError, match="a learning rate"):
        learn(network, x, states, beta=0.1, rate=NAN)


def test_segments_of_no_layers() -> None:
    network = dense()
    x, target, _ = batch(network)
    with pytest.raises(FieldError, match="segments of 0 layers"):
        reference.backpropagate(network, x, target, rate=0.1, segment=0)
