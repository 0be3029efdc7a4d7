"""Loss scaling, held against torch's own scaler step by step."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.amp import GradScaler

from memplan.domain.errors import FieldError, RunError
from memplan.mechanisms.context import LossScaler
from memplan.mechanisms.context.scaling import LEAST, is_finite

steps = st.lists(
    st.sampled_from([1.0, -3.5, 1e-9, float("inf"), float("-inf"), float("nan")]), min_size=1, max_size=25
)


@settings(deadline=None, max_examples=80)
@given(
    gradients=steps,
    scale=st.sampled_from([2.0**16, 1000.0, 3.0e38]),
    growth=st.sampled_from([2.0, 1.7]),
    backoff=st.sampled_from([0.5, 0.3]),
    interval=st.integers(1, 4),
)
def test_scale_skipped_steps_and_weights_are_those_of_torch(
    gradients: list[float], scale: float, growth: float, backoff: float, interval: int
) -> None:
    oracle = GradScaler(
        "cpu", init_scale=scale, growth_factor=growth, backoff_factor=backoff, growth_interval=interval
    )
    mine = LossScaler(scale=scale, growth=growth, backoff=backoff, interval=interval)
    theirs_weight, my_weight = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    theirs, ours = (torch.optim.SGD([weight], lr=0.1) for weight in (theirs_weight, my_weight))
    oracle.scale(torch.zeros(()))  # The scale is made when it is first needed.
    for number in gradients:
        theirs_weight.grad = torch.tensor([1.0, number, 2.0]) * oracle.get_scale()
        my_weight.grad = torch.tensor([1.0, number, 2.0]) * mine.scale
        oracle.step(theirs)
        oracle.update()
        finite = mine.unscale([my_weight.grad])
        if finite:
            ours.step()
        mine.update(finite=finite)
        assert mine.state_dict() == oracle.state_dict()
        assert torch.equal(my_weight, theirs_weight)


def test_a_state_goes_from_one_to_the_other_and_back() -> None:
    oracle = GradScaler("cpu", init_scale=512.0, growth_interval=7)
    oracle.scale(torch.zeros(()))
    mine = LossScaler()
    mine.load_state_dict(oracle.state_dict())
    for _ in range(9):
        mine.update(finite=True)
    assert (mine.scale, mine.good_steps) == (1024.0, 2)
    oracle.load_state_dict(mine.state_dict())
    assert oracle.get_scale() == 1024.0


def test_gradients_that_fp16_loses_survive_with_a_scale() -> None:
    weight = torch.ones((), dtype=torch.float16, requires_grad=True)
    (weight * 1e-9).float().backward()
    assert weight.grad == 0
    weight.grad = None
    scaler = LossScaler()
    scaler.scaled((weight * 1e-3).float() * 1e-5).backward()
    found = weight.grad.float()
    assert scaler.unscale([found])
    assert float(found) == pytest.approx(1e-8, rel=1e-3)


def test_a_loss_in_half_precision_is_scaled_in_single() -> None:
    scaled = LossScaler().scaled(torch.ones((), dtype=torch.float16))
    assert scaled.dtype is torch.float32
    assert float(scaled) == 65536.0


def test_overflow_that_no_scale_cures_is_an_error_and_not_a_loop() -> None:
    scaler = LossScaler(scale=1.0)
    for _ in range(24):
        scaler.update(finite=False)
    assert scaler.scale == LEAST
    with pytest.raises(RunError, match="not finite at a loss scale"):
        scaler.update(finite=False)
    assert scaler.skipped == 25
    assert scaler.scale < LEAST


@given(st.lists(st.floats(width=32), max_size=20))
def test_finite_means_every_number_is(numbers: list[float]) -> None:
    tensor = torch.tensor(numbers, dtype=torch.float32)
    assert is_finite(tensor) == bool(torch.isfinite(tensor).all())


def test_gradients_in_half_precision_are_not_divided() -> None:
    with pytest.raises(FieldError, match=r"a gradient of torch\.float16"):
        LossScaler().unscale([torch.ones(2, dtype=torch.float16)])


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": float("inf")}, "scale is inf"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"growth": 1.0}, "growth is 1.0"),
        ({"growth": float("inf")}, "growth is inf"),
        ({"backoff": 1.0}, "backoff is 1.0"),
        ({"backoff": 0.0}, "backoff is 0.0"),
        ({"interval": 0}, "interval is 0"),
        ({"interval": 1.5}, "interval is 1.5"),
    ],
)
def test_numbers_that_cannot_be_are_refused(asked: dict[str, int], named: str) -> None:
    with pytest.raises(FieldError, match=named):
        LossScaler(**asked)


@pytest.mark.parametrize("change", [{"scale": float("nan")}, {"_growth_tracker": -1}, {"growth_factor": 0.5}])
def test_a_bad_state_is_refused_and_changes_nothing(change: dict[str, float]) -> None:
    scaler = LossScaler()
    before = scaler.state_dict()
    with pytest.raises(FieldError):
        scaler.load_state_dict({**before, "scale": 8.0, **change})
    with pytest.raises(FieldError, match="without scale"):
        scaler.load_state_dict({})
    assert scaler.state_dict() == before
