"""Losses that never hold all logits."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.trace import Phase, Tag
from memplan.domain.workload import Adapter, Loss, Workload
from memplan.estimate import estimate
from memplan.simulator.autograd import Leaf, run_graph
from memplan.simulator.blocks import Store
from memplan.simulator.fused_loss import fused_linear
from memplan.simulator.linear_chunks import chunk_rows
from memplan.simulator.tensor import Tape
from tests.unit.simulator.runs import AMP, FP32, at_start, model_of, peak, run, shape, workload

TOKENS, WIDTH, VOCABULARY = 32, 32, 512
ADAPTER = Adapter(rank=4, targets=("q_proj",))


def case(kind: str, **settings: Any) -> Workload:
    return workload(shape(vocab_size=VOCABULARY), loss=Loss(kind=kind), **settings)


def of_the_loss(tag: Tag) -> bool:
    return tag[0] == "logits_and_loss"


@pytest.mark.parametrize(
    ("tokens", "vocabulary", "width", "rows"),
    [
        (16384, 32000, 4096, 2048),
        (4096, 128256, 2048, 128),
        (2048, 2048, 4096, 2048),
        (5, 100, 10, 1),
        (3, 10, 10, 3),
    ],
)
def test_liger_takes_as_many_tokens_as_fill_the_room_of_the_hidden_states(
    tokens: int, vocabulary: int, width: int, rows: int
) -> None:
    """The first row is the example of Liger's own source."""
    assert chunk_rows(tokens, vocabulary, width) == rows


def test_liger_makes_the_gradients_in_the_forward_pass_and_backward_takes_them_as_they_are() -> None:
    trace = run(case("fused_linear"))
    assert at_start(trace, Phase.BACKWARD, of_the_loss) == 2 * TOKENS * WIDTH + 4
    assert at_start(trace, Phase.BACKWARD, lambda tag: tag[0] == "gradients") == 2 * VOCABULARY * WIDTH
    assert [tag for tag in trace.tags if tag[2:4] == ("clone", (VOCABULARY, WIDTH))] == []


def test_liger_keeps_no_gradient_of_a_frozen_head() -> None:
    left = at_start(run(case("fused_linear", adapter=ADAPTER)), Phase.BACKWARD, of_the_loss)
    assert left == 2 * TOKENS * WIDTH + 4


def test_liger_goes_through_whole_products_where_it_cannot_add_to_them() -> None:
    """fp32 heads, and GPUs before Ampere: a product the size of the head for each chunk."""
    head = VOCABULARY * WIDTH
    assert any(
        tag[2:4] == ("mm", (VOCABULARY, WIDTH)) for tag in run(case("fused_linear", precision=FP32)).tags
    )
    old = run(case("fused_linear", attention="math"), (7, 5))
    assert any(tag[2:4] == ("float", (VOCABULARY, WIDTH)) for tag in old.tags)
    recent = run(case("fused_linear"))
    assert sum(size for size, tag in zip(recent.sizes, recent.tags, strict=True) if tag[2] == "float") < head


def test_liger_casts_the_head_for_every_chunk_under_autocast() -> None:
    trace = run(case("fused_linear", precision=AMP))
    casts = [tag for tag in trace.tags if of_the_loss(tag) and tag[2:4] == ("to", (VOCABULARY, WIDTH))]
    assert len(casts) == TOKENS // chunk_rows(TOKENS, VOCABULARY, WIDTH) + 1


def test_cut_cross_entropy_keeps_a_number_for_each_token_and_each_word() -> None:
    left = at_start(run(case("cut_cross_entropy")), Phase.BACKWARD, of_the_loss)
    assert left == 4 * TOKENS + 8 * TOKENS + 4 * VOCABULARY + 4


@pytest.mark.parametrize("kind", ["fused_linear", "cut_cross_entropy"])
def test_the_logits_are_gone(kind: str) -> None:
    logits = 2 * TOKENS * VOCABULARY
    whole = run(case("cross_entropy"))
    fused = run(case(kind, adapter=ADAPTER))
    assert peak(whole, wanted=of_the_loss) > 3 * logits
    assert peak(fused, wanted=of_the_loss) < logits


@pytest.mark.parametrize("kind", ["chunked", "fused_linear", "cut_cross_entropy"])
def test_no_gap_is_named_for_a_simulated_loss(kind: str) -> None:
    assert not [gap for gap in estimate(case(kind)).device.gaps if "loss" in gap.reason]
    assert model_of(case(kind)).vocab_size == VOCABULARY


@pytest.mark.parametrize(
    ("release", "dtype", "trains", "peak_of_liger"),
    [
        ("0.4.2", Dtype.BF16, True, 359600),
        ("0.4.2", Dtype.BF16, False, 295600),
        ("0.4.2", Dtype.FP32, True, 590000),
        ("0.5.2", Dtype.BF16, True, 295600),
        ("0.5.2", Dtype.FP32, False, 462000),
        ("0.5.10", Dtype.BF16, True, 231600),
        ("0.5.10", Dtype.FP32, True, 462000),
        ("0.6.5", Dtype.BF16, False, 167600),
        ("0.6.5", Dtype.FP32, True, 462000),
        ("0.8.0", Dtype.FP32, False, 334000),
        ("0.8.2", Dtype.FP32, True, 478384),
        ("0.8.5", Dtype.BF16, True, 167600),
        ("0.8.5", Dtype.BF16, False, 103600),
        ("0.8.5", Dtype.FP32, True, 462000),
    ],
)
def test_releases_of_liger_peak_where_they_do(
    release: str, dtype: Dtype, trains: bool, peak_of_liger: int
) -> None:
    """Of allocations of at least 1 KiB; recorded on the CPU with kernels that do nothing, as steps are."""
    tape = Tape((8, 0), Framework(liger=release))
    head = Store(tape, dtype, trainable=trains).parameter("head", (500, 64))
    x = tape.empty((300, 64), dtype, "x")
    x.node = Leaf(x, "x")
    start = len(tape.trace.events)
    loss = fused_linear(x, head)
    assert loss.node is not None
    run_graph(loss.node, tape.empty(loss.shape, loss.dtype, "ones_like"))
    used = highest = 0
    for event in tape.trace.events[start:]:
        block = max(event, ~event)
        if tape.trace.sizes[block] >= 1024 and tape.trace.tags[block][0] != "workspace":
            used += tape.trace.sizes[block] if event >= 0 else -tape.trace.sizes[block]
            highest = max(highest, used)
    assert highest == peak_of_liger
