"""Windows put together again: what is exact, what is refused, what it takes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.context import Merge, Merger, Windows, local_attention, over_windows
from memplan.simulator.replay import replay
from memplan.smoke.cpu.events import Events

pytestmark = pytest.mark.usefixtures("one_thread")


@st.composite
def windows(draw: st.DrawFn) -> Windows:
    length = draw(st.integers(1, 60))
    width = draw(st.integers(1, length))
    return Windows(length=length, width=width, stride=draw(st.integers(1, width)))


@settings(deadline=None, max_examples=60)
@given(
    windows(), st.sampled_from(list(Merge)), st.sampled_from([torch.float32, torch.float64, torch.float16])
)
def test_a_function_of_single_tokens_gives_to_the_bit_what_it_gives_the_whole_sequence(
    over: Windows, rule: Merge, dtype: torch.dtype
) -> None:
    tokens = torch.randn(2, over.length, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    merged = over_windows(lambda piece: piece * 3 + 0.1, tokens, over, rule=rule, axis=-2)
    assert merged.dtype is dtype
    assert torch.equal(merged, tokens * 3 + 0.1)


@settings(deadline=None, max_examples=40)
@given(windows())
def test_mean_and_max_are_those_of_all_outputs_collected_first(over: Windows) -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = [torch.randn(over.width, 2, generator=generator, dtype=torch.float64) for _ in over]
    said: list[list[Tensor]] = [[] for _ in range(over.length)]
    for window, output in zip(over, outputs, strict=True):
        for place, token in enumerate(range(window.start, window.stop)):
            said[token].append(output[place])
    wanted = {
        Merge.MEAN: torch.stack([torch.stack(all_).mean(0) for all_ in said]),
        Merge.MAX: torch.stack([torch.stack(all_).amax(0) for all_ in said]),
        Merge.FIRST: torch.stack([all_[0] for all_ in said]),
    }
    for rule, expected in wanted.items():
        merger = Merger(over, rule)
        for output in outputs:
            merger.add(output)
        torch.testing.assert_close(merger.result(), expected, rtol=1e-12, atol=1e-12)


class Local(nn.Module):  # type: ignore[misc]
    """A layer of local attention with a residual."""

    def __init__(self, width: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.qkv = nn.Linear(width, 3 * width).double()
        self.out = nn.Linear(width, width).double()

    def forward(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        split = self.qkv(hidden).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = local_attention(*split, reach=self.reach, block=7)
        return hidden + self.out(seen.transpose(1, 2).reshape(batch, length, width))


@pytest.mark.parametrize(("length", "width"), [(61, 20), (40, 40), (47, 16)])
def test_a_model_that_looks_back_less_than_windows_overlap_is_exact_where_the_first_window_counts(
    length: int, width: int
) -> None:
    torch.manual_seed(0)
    layers, reach = 3, 4
    model = nn.Sequential(*(Local(8, 2, reach) for _ in range(layers)))
    tokens = torch.randn(2, length, 8, dtype=torch.float64)
    looks_back = layers * (reach - 1)
    over = Windows(length=length, width=width, stride=width - looks_back)
    whole = model(tokens).detach()
    exact = over_windows(model, tokens, over, rule=Merge.FIRST, axis=-2)
    torch.testing.assert_close(exact, whole, rtol=1e-12, atol=1e-12)
    if len(over) > 1:
        averaged = over_windows(model, tokens, over, axis=-2)
        assert (averaged - whole).abs().max() > 1e-3


@pytest.mark.parametrize("rule", list(Merge))
def test_a_window_over_the_whole_sequence_is_full_attention(rule: Merge) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(Local(8, 2, 1000) for _ in range(2)))
    tokens = torch.randn(2, 33, 8, dtype=torch.float64)
    covered = over_windows(model, tokens, Windows(length=33, width=33), rule=rule, axis=-2)
    assert torch.equal(covered, model(tokens).detach())


def test_of_full_attention_windows_give_what_the_first_covers_and_no_more() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(Local(8, 2, 1000) for _ in range(2)))
    tokens = torch.randn(1, 40, 8, dtype=torch.float64)
    whole = model(tokens).detach()
    over = Windows(length=40, width=16, stride=8)
    merged = over_windows(model, tokens, over, rule=Merge.FIRST, axis=-2)
    torch.testing.assert_close(merged[:, :16], whole[:, :16], rtol=1e-12, atol=1e-12)
    assert ((merged - whole)[:, 16:].abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused_with_their_window(bad: float) -> None:
    merger = Merger(Windows(length=6, width=4, stride=2))
    merger.add(torch.zeros(1, 4, 2))
    output = torch.zeros(1, 4, 2)
    output[0, 3, 1] = bad
    with pytest.raises(InputError, match="window 2 of 2 holds numbers that are not finite"):
        merger.add(output)


@pytest.mark.parametrize(
    ("outputs", "named"),
    [
        ([torch.zeros(4)], "shape"),
        ([torch.zeros(1, 3, 2)], "shape"),
        ([torch.zeros(1, 4, 2, dtype=torch.int64)], "int64"),
        ([torch.zeros(1, 4, 2), torch.zeros(1, 4, 3)], "as the first"),
        ([torch.zeros(1, 4, 2), torch.zeros(1, 4, 2, dtype=torch.float64)], "as the first"),
        ([torch.zeros(1, 4, 2)] * 3, "after the last of 2 windows"),
    ],
)
def test_outputs_that_do_not_belong_are_refused(outputs: list[Tensor], named: str) -> None:
    merger = Merger(Windows(length=6, width=4, stride=2))
    for output in outputs[:-1]:
        merger.add(output)
    with pytest.raises(InputError) as caught:
        merger.add(outputs[-1])
    assert named in str(caught.value)


def test_a_result_before_the_last_window_is_refused() -> None:
    merger = Merger(Windows(length=6, width=4, stride=2))
    merger.add(torch.zeros(4, 2))
    with pytest.raises(InputError, match="1 of 2 windows"):
        merger.result()


def test_windows_of_another_length_are_refused() -> None:
    with pytest.raises(FieldError, match="windows over 6 tokens for a sequence of 7"):
        over_windows(lambda piece: piece, torch.zeros(1, 7), Windows(length=6, width=3))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(FieldError, match="median"):
        Merger(Windows(length=6, width=3), "median")  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", list(Merge))
def test_merging_takes_the_result_and_one_window_by_allocation_events(rule: Merge) -> None:
    over = Windows(length=4096, width=256, stride=64)
    channels = 32
    tokens = torch.randn(1, over.length, channels)
    events = Events()
    with events.watching(()) as found:
        over_windows(lambda piece: piece.clone(), tokens, over, rule=rule, axis=-2)
    result, window = over.length * channels * 4, over.width * channels * 4
    # The mean has a count per token and makes one difference of a window's size; the others' peak is
    # where the smallest and the largest number of a window are found, to see that it is finite.
    beside = over.length * 4 + window if rule is Merge.MEAN else 8
    assert replay(found[0], exact=True).peak.allocated == result + window + beside


def test_collecting_the_outputs_first_takes_three_times_the_result_by_allocation_events() -> None:
    over = Windows(length=4096, width=256, stride=128)
    tokens = torch.randn(1, over.length, 32)
    events = Events()
    with events.watching(()) as found:
        outputs = [tokens[:, window.tokens].clone() for window in over]
        merger = Merger(over, Merge.MAX)
        for output in outputs:
            merger.add(output)
    taken = replay(found[0], exact=True).peak.allocated
    assert taken == len(over) * 256 * 128 + over.length * 128 + 8
    assert taken / (over.length * 128) == pytest.approx(3, abs=0.07)
