"""Three loops over tokens: the same tokens, and different allocations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'memplan[smoke]'")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from memplan.domain.errors import FieldError, InputError  # noqa: E402
from memplan.domain.trace import Phase  # noqa: E402
from memplan.mechanisms.buffers import (  # noqa: E402
    AllocatingLoop,
    BatchedLoop,
    PreallocatedLoop,
    TokenModel,
    TokenSizes,
)
from memplan.smoke.cpu.events import Events  # noqa: E402

SIZES = TokenSizes(vocabulary=19, embedding=12, state=7, output=33)
MODEL = TokenModel.random(SIZES)
DOUBLE = TokenModel.random(SIZES, dtype=torch.float64)
TEMPERATURES = (None, 0.7)


def _ids(count: int, seed: int = 1) -> Any:
    return torch.randint(SIZES.vocabulary, (count,), generator=torch.Generator().manual_seed(seed))


def _run(loop: Any, ids: Any, seed: int = 2) -> tuple[Any, Any]:
    """Tokens and the state afterwards."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(1, SIZES.state, generator=generator).to(loop.model.dtype)
    return loop(ids, state, generator=generator), state


def _allocations(loop: Any, ids: Any) -> list[int]:
    """Bytes of each allocation that the profiler sees in one call."""
    state, out = torch.zeros(1, SIZES.state, dtype=loop.model.dtype), torch.empty_like(ids)
    events = Events()
    with events.watching([]) as found:
        events.enter(Phase.DECODE)
        loop(ids, state, out=out)
    return found[0].sizes


@pytest.mark.parametrize("temperature", TEMPERATURES)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_buffers_change_no_bit_of_the_result(temperature: float | None, count: int, seed: int) -> None:
    ids = _ids(count, seed)
    tokens, state = _run(AllocatingLoop(MODEL, temperature=temperature), ids, seed)
    buffered = PreallocatedLoop(MODEL, temperature=temperature)
    for _ in range(2):  # What the first call left in the buffers does not matter.
        again, after = _run(buffered, ids, seed)
        assert torch.equal(again, tokens)
        assert torch.equal(after, state)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@given(count=st.integers(1, 40), chunk=st.none() | st.integers(1, 50), seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_many_at_once_give_the_same_to_rounding(
    temperature: float | None, count: int, chunk: int | None, seed: int
) -> None:
    ids = _ids(count, seed)
    tokens, state = _run(AllocatingLoop(DOUBLE, temperature=temperature), ids, seed)
    again, after = _run(BatchedLoop(DOUBLE, temperature=temperature, chunk=chunk), ids, seed)
    assert torch.equal(again, tokens)
    torch.testing.assert_close(after, state, rtol=1e-12, atol=1e-12)


def test_a_draw_is_that_of_multinomial() -> None:
    ids, temperature = _ids(30), 1.3
    tokens, _ = _run(AllocatingLoop(MODEL, temperature=temperature), ids)
    generator = torch.Generator().manual_seed(2)
    state = torch.randn(1, SIZES.state, generator=generator)
    for index, token in enumerate(ids):
        embedded = MODEL.embedding[token][None]
        state = torch.tanh(embedded @ MODEL.input.T + MODEL.input_bias + state @ MODEL.recurrent.T)
        logits = (state @ MODEL.output.T + MODEL.output_bias) @ MODEL.decoder.T
        drawn = torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)
        assert drawn.item() == tokens[index].item()


def test_each_token_costs_the_allocating_loop_the_same_again() -> None:
    sizes = [_allocations(AllocatingLoop(MODEL), _ids(count)) for count in (1, 2, 3)]
    numbers = SIZES.embedding + 4 * SIZES.state + SIZES.output + SIZES.vocabulary
    for before, after in pairwise(sizes):
        assert len(after) - len(before) == 9
        assert sum(after) - sum(before) == 4 * numbers + 4 + 8
    drawing = [_allocations(AllocatingLoop(MODEL, temperature=0.5), _ids(count)) for count in (1, 2)]
    assert len(drawing[1]) - len(drawing[0]) == 15
    assert sum(drawing[1]) - sum(drawing[0]) == 4 * (numbers + 4 * SIZES.vocabulary) + 4 + 8 + 8 + 4


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("model", [MODEL, DOUBLE], ids=["float32", "float64"])
def test_with_buffers_nothing_is_allocated(model: Any, temperature: float | None) -> None:
    loop = PreallocatedLoop(model, temperature=temperature)
    assert _allocations(loop, _ids(25)) == []
    drawing = 0 if temperature is None else SIZES.vocabulary + 1
    numbers = SIZES.embedding + 3 * SIZES.state + SIZES.output + SIZES.vocabulary + 1 + drawing
    assert loop.buffers.bytes == numbers * model.dtype.itemsize


def test_many_at_once_allocate_by_the_chunk() -> None:
    assert len(_allocations(BatchedLoop(MODEL), _ids(5))) == len(_allocations(BatchedLoop(MODEL), _ids(50)))
    assert len(_allocations(BatchedLoop(MODEL, chunk=10), _ids(50))) == 1 + 5 * 7


@pytest.mark.parametrize("kind", [AllocatingLoop, PreallocatedLoop, BatchedLoop])
@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (dict(ids=torch.tensor([0, 19])), "not in the vocabulary"),
        (dict(ids=torch.tensor([-1])), "expected: 0 to 18"),
        (dict(ids=torch.zeros(0, dtype=torch.int64)), "with at least one token"),
        (dict(ids=torch.zeros(2, 2, dtype=torch.int64)), "ids have the shape (2, 2)"),
        (dict(ids=torch.zeros(2)), "torch.float32"),
        (dict(state=torch.zeros(7)), "the state has the shape (7,)"),
        (dict(state=torch.zeros(1, 7, dtype=torch.float64)), "expected: (1, 7), torch.float32"),
        (dict(out=torch.zeros(3, dtype=torch.int64)), "out has the shape (3,)"),
        (dict(out=torch.zeros(2)), "out has the shape (2,), torch.float32"),
    ],
)
def test_what_cannot_be_run_is_refused(kind: Callable[..., Any], given_: dict[str, Any], said: str) -> None:
    arguments = dict(ids=_ids(2), state=torch.zeros(1, SIZES.state), out=None) | given_
    with pytest.raises(FieldError) as caught:
        kind(MODEL)(arguments["ids"], arguments["state"], out=arguments["out"])
    assert said in str(caught.value)


@pytest.mark.parametrize("kind", [AllocatingLoop, PreallocatedLoop, BatchedLoop])
@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused_and_the_state_kept(
    kind: Callable[..., Any], temperature: float | None, number: float
) -> None:
    decoder = MODEL.decoder.clone()
    decoder[3, 5] = number
    state = torch.zeros(1, SIZES.state)
    with pytest.raises(InputError, match="are not finite"):
        kind(replace(MODEL, decoder=decoder), temperature=temperature)(_ids(9), state)
    assert state.eq(0).all()


@pytest.mark.parametrize("kind", [AllocatingLoop, PreallocatedLoop, BatchedLoop])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_positive(kind: Callable[..., Any], temperature: float) -> None:
    with pytest.raises(FieldError, match="the temperature is"):
        kind(MODEL, temperature=temperature)


@pytest.mark.parametrize("chunk", [0, -4])
def test_a_chunk_is_positive(chunk: int) -> None:
    with pytest.raises(FieldError, match="chunk is"):
        BatchedLoop(MODEL, chunk=chunk)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(decoder=torch.zeros(19, 32)), "decoder has the shape (19, 32)"),
        (dict(input=torch.zeros(7, 12, dtype=torch.float64)), "input is torch.float64"),
        (dict(embedding=torch.zeros(19)), "embedding has the shape (19,)"),
    ],
)
def test_weights_that_do_not_fit_together_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        replace(MODEL, **changes)
    assert said in str(caught.value)


def test_sizes_are_positive() -> None:
    with pytest.raises(FieldError, match="state is 0"):
        TokenSizes(vocabulary=1, embedding=1, state=0, output=1)


def test_weights_that_are_trained_take_no_gradient_through_a_loop() -> None:
    trained = replace(MODEL, decoder=MODEL.decoder.clone().requires_grad_())
    for kind in (AllocatingLoop, PreallocatedLoop, BatchedLoop):
        state = torch.zeros(1, SIZES.state)
        assert not kind(trained)(_ids(3), state).requires_grad
        assert not state.requires_grad
