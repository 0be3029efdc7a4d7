"""Values in words: nobody is shown a Python expression."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

import pytest

from memplan.dialects import edits, writing
from memplan.domain.allocator import AllocatorOptions
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.host import ActivationOffload
from memplan.domain.plan import Change
from memplan.domain.wording import in_words, worded
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Evaluation,
    Loss,
    Outputs,
    Quantization,
    Workload,
    World,
)
from memplan.domain.zero import Zero
from tests.planning import reading, workload

WORDS: list[tuple[Any, str]] = [
    (None, "none"),
    (True, "true"),
    (False, "false"),
    (8, "8"),
    (0.05, "0.05"),
    ("adamw", "adamw"),
    ((), "none"),
    (("q_proj", "v_proj"), "q_proj, v_proj"),
    (Dtype.BF16, "bf16"),
    (Attention.SDPA, "sdpa"),
    (Outputs.UNTIL_STEP, "until_step"),
    (ActivationOffload.STREAMS, "streams"),
    (Adapter(rank=16), "lora of rank 16"),
    (Quantization(kind="nf4", double=True), "nf4"),
    (Checkpointing(), "none"),
    (Checkpointing(every=1), "full"),
    (Checkpointing(every=3), "every 3"),
    (Loss(kind="chunked", chunks=8), "chunked, 8 chunks"),
    (Loss(), "cross_entropy"),
    (World(), "one GPU"),
    (World(data_parallel=4), "4 GPUs"),
    (World(data_parallel=4, sharding="zero3"), "zero3 over 4 GPUs"),
    (Evaluation(batch=2), "batch 2"),
    (Evaluation(), "default"),
    (AllocatorOptions(expandable_segments=True), "expandable segments true"),
    (Zero(), "default"),
]
_EXPRESSION = re.compile(r"\w\(\w*=|<\w|\bNone\b|\bTrue\b|\bFalse\b|Dtype\.|['\"\[\]{}]")


@pytest.mark.parametrize(("value", "words"), WORDS, ids=[words for _, words in WORDS])
def test_a_value_is_told_in_words(value: Any, words: str) -> None:
    assert worded(value) == words
    assert writing.shown(value) == words


@pytest.mark.parametrize("name", [item.name for item in fields(Workload)])
def test_no_part_of_a_workload_is_shown_as_an_expression(name: str) -> None:
    assert not _EXPRESSION.search(worded(getattr(workload(), name)))


def test_changes_read_from_before_to_after() -> None:
    changes = (
        change("adapter", None, Adapter(rank=8)),
        change("quantization", None, Quantization(kind="nf4")),
        change("precision.autocast", Dtype.FP16, None),
    )
    assert in_words(changes) == (
        "adapter none → lora of rank 8, quantization none → nf4, precision.autocast fp16 → none"
    )


@pytest.mark.parametrize("value", [value for value, _ in WORDS], ids=[words for _, words in WORDS])
def test_advice_is_in_words_whatever_the_value(value: Any) -> None:
    found = reading()
    _, advice = edits(found, [("model", found.workload.model, value)])
    assert advice
    assert not any(_EXPRESSION.search(each.message) for each in advice)


def change(field: str, before: Any, after: Any) -> Change:
    return Change(
        field=field, before=before, after=after, harm=Harm.BEHAVIOUR, reason="of tests", saves=Bytes(0)
    )


def test_parts_that_are_whole_nouns_are_told_by_their_own_parts() -> None:
    assert worded(Batch(micro=2, accumulation=3)) == "micro 2, accumulation 3"
