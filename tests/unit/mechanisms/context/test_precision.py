"""Half precision with masters: exact where it can be, measured where it takes memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from memplan.domain.errors import FieldError, InputError, RunError
from memplan.mechanisms.context import LossScaler, MixedPrecision
from memplan.smoke.cpu.events import Events

pytestmark = pytest.mark.usefixtures("one_thread")


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4))


def data(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(64, 16, generator=generator).to(dtype), torch.randint(0, 4, (64,), generator=generator)


def adam(masters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(masters, lr=3e-3)


def trained(training: MixedPrecision, steps: int, dtype: torch.dtype) -> list[float]:
    inputs, wanted = data(dtype)
    losses = []
    for _ in range(steps):
        loss = functional.cross_entropy(training.model(inputs).float(), wanted)
        training.backward(loss)
        training.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_learns_as_single_precision_does(dtype: torch.dtype) -> None:
    single = model()
    optimizer = adam(list(single.parameters()))
    inputs, wanted = data(torch.float32)
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.cross_entropy(single(inputs), wanted)
        loss.backward()
        optimizer.step()
    half = trained(MixedPrecision(model(), adam, dtype=dtype), 60, dtype)
    assert half[-1] < 0.7 * half[0]
    assert half[-1] == pytest.approx(float(loss.detach()), rel=0.05)


def test_masters_keep_what_half_precision_rounds_away() -> None:
    weight = nn.Linear(1, 1, bias=False)
    nn.init.constant_(weight.weight, 1.0)
    few = LossScaler(scale=1024.0)
    training = MixedPrecision(weight, lambda masters: torch.optim.SGD(masters, lr=1e-5), scaler=few)
    for _ in range(20):
        training.backward(training.model(torch.ones(1, 1, dtype=torch.float16)).sum())
        assert training.step()
    assert float(training.masters[0].detach()) == pytest.approx(1 - 20e-5, rel=1e-5)
    # One step alone, 1e-5, is less than half the distance of fp16's numbers at 1.
    assert torch.tensor(1 - 1e-5).half() == 1
    assert weight.weight == training.masters[0].half()


def test_a_step_that_overflows_is_skipped_and_the_scale_falls() -> None:
    training = MixedPrecision(model(), adam, scaler=LossScaler(scale=2.0**20))
    before = [master.clone() for master in training.masters]
    inputs, wanted = data(torch.float16)
    training.backward(1000 * functional.cross_entropy(training.model(inputs).float(), wanted))
    assert not training.step()
    assert all(torch.equal(master, old) for master, old in zip(training.masters, before, strict=True))
    assert all(weight.grad is None for weight in training.working)
    assert training.scaler is not None
    assert (training.scaler.scale, training.scaler.skipped) == (2.0**19, 1)
    made = False
    while not made:
        training.backward(1000 * functional.cross_entropy(training.model(inputs).float(), wanted))
        made = training.step()
    assert not torch.equal(training.masters[0], before[0])


def test_bf16_has_no_scale_and_still_skips_what_is_not_finite() -> None:
    training = MixedPrecision(model(), adam, dtype=torch.bfloat16)
    assert training.scaler is None
    before = training.masters[0].clone()
    training.backward(training.model(data(torch.bfloat16)[0]).float().sum() * float("inf"))
    assert not training.step()
    assert torch.equal(training.masters[0], before)


def test_a_loss_that_is_never_finite_ends_with_an_error() -> None:
    training = MixedPrecision(model(), adam)

    def always() -> None:
        for _ in range(100):
            training.backward(training.model(data(torch.float16)[0]).float().sum() * float("nan"))
            training.step()

    with pytest.raises(RunError):
        always()


def test_gradients_are_clipped_after_the_scale_is_taken_off() -> None:
    training = MixedPrecision(model(), lambda masters: torch.optim.SGD(masters, lr=1.0))
    before = [master.clone() for master in training.masters]
    inputs, wanted = data(torch.float16)
    training.backward(functional.cross_entropy(training.model(inputs).float(), wanted))
    assert training.step(clip=1e-2)
    moved = torch.cat([(new - old).flatten() for new, old in zip(training.masters, before, strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(1e-2, rel=1e-3)
    with pytest.raises(FieldError, match="clipped to 0"):
        training.step(clip=0.0)


def test_a_step_without_gradients_is_refused() -> None:
    training = MixedPrecision(model(), adam)
    with pytest.raises(InputError, match="without gradients"):
        training.step()


def test_a_saved_training_goes_on_to_the_bit() -> None:
    through = MixedPrecision(model(), adam, scaler=LossScaler(interval=4))
    trained(through, 5, torch.float16)
    state = through.state_dict()
    again = MixedPrecision(model(1), adam, scaler=LossScaler())
    again.load_state_dict(state)
    assert trained(again, 5, torch.float16) == trained(through, 5, torch.float16)
    assert again.scaler is not None
    assert through.scaler is not None
    assert again.scaler.state_dict() == through.scaler.state_dict()


def test_states_of_another_training_are_refused() -> None:
    training = MixedPrecision(model(), adam)
    with pytest.raises(InputError, match="masters of shapes"):
        training.load_state_dict(MixedPrecision(nn.Linear(2, 2), adam).state_dict())
    with pytest.raises(InputError, match="loss scaling"):
        training.load_state_dict(MixedPrecision(model(), adam, dtype=torch.bfloat16).state_dict())


def test_models_and_dtypes_that_cannot_be_are_refused() -> None:
    with pytest.raises(FieldError, match=r"torch\.float32"):
        MixedPrecision(model(), adam, dtype=torch.float32)
    with pytest.raises(InputError, match="no parameter"):
        MixedPrecision(model().requires_grad_(False), adam)


def test_frozen_and_tied_weights_have_no_masters_of_their_own() -> None:
    tied = model()
    tied[0].weight.requires_grad_(False)
    training = MixedPrecision(tied, adam)
    assert len(training.masters) == 3
    assert tied[0].weight.dtype is torch.float16


def test_weights_of_a_training_take_six_bytes_and_not_two_by_allocation_events() -> None:
    """fp16 halves what computes; the masters are there as well: 6 bytes a weight where fp32 has 4."""
    events = Events()
    with events.watching(()) as found:
        linear = nn.Linear(512, 512, bias=False)
        training = MixedPrecision(linear, lambda masters: torch.optim.SGD(masters, lr=0.1))
        held = training.working, training.masters
    trace = found[0]
    freed = {~event for event in trace.events if event < 0}
    left = [size for block, size in enumerate(trace.sizes) if block not in freed]
    assert len(held[0]) == len(held[1]) == 1
    assert sum(left) == 512 * 512 * (2 + 4)
