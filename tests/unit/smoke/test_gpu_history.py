"""The allocator's history and the meter's marks, put together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from tests.oracle.libraries import library

library("torch")

from memplan.smoke.gpu.history import ROUNDING, Mark, past  # noqa: E402

KIB = 1024
WEIGHT = ("blocks", "mlp", "parameter", (KIB,), Dtype.UINT8)


def made(address: int, size: int = KIB) -> dict[str, Any]:
    return {"action": "alloc", "addr": address, "size": size}


def freed(address: int) -> list[dict[str, Any]]:
    return [
        {"action": action, "addr": address, "size": KIB} for action in ("free_requested", "free_completed")
    ]


def test_unnamed_allocations_are_what_their_phase_makes() -> None:
    entries = [made(0), made(1), made(2), made(3), made(4), made(5)]
    marks = [
        Mark(position=0, phase=Phase.LOAD),
        Mark(position=1, noted=((0, WEIGHT), (99, WEIGHT))),
        Mark(position=1, phase=Phase.FORWARD),
        Mark(position=2, logits=True),
        Mark(position=3, phase=Phase.BACKWARD, logits=True),
        Mark(position=4, logits=False),
        Mark(position=5, phase=Phase.OPTIMIZER),
    ]
    found = past(entries, marks)
    assert [tag[0] for tag in found.trace.tags] == [
        "blocks",
        "activations",
        "logits_and_loss",
        "logits_and_loss",
        "temporaries",
        "temporaries",
    ]
    assert found.trace.tags[0] == WEIGHT
    assert found.trace.phases == [
        (0, Phase.LOAD),
        (1, Phase.FORWARD),
        (3, Phase.BACKWARD),
        (5, Phase.OPTIMIZER),
    ]
    assert dict(found.at_the_end()) == {
        "blocks": KIB,
        "activations": KIB,
        "logits_and_loss": 2 * KIB,
        "temporaries": 2 * KIB,
    }


def test_a_name_holds_for_the_block_that_is_there_and_not_for_the_next_at_its_address() -> None:
    entries = [made(7), *freed(7), made(7, 2 * KIB)]
    found = past(entries, [Mark(position=1, noted=((7, WEIGHT),))])
    assert [tag[0] for tag in found.trace.tags] == ["blocks", "activations"]
    assert found.at_the_end() == (("activations", 2 * KIB),)


def test_what_was_there_before_and_segments_are_not_counted() -> None:
    others: list[dict[str, Any]] = [
        {"action": "segment_alloc", "addr": 0, "size": 2**21},
        {"action": "snapshot"},
    ]
    found = past([*freed(5), *others, made(1)], [])
    assert found.trace.events == [0]


def test_after_a_failure_nothing_is_looked_at() -> None:
    failed = {"action": "oom", "size": 3 * KIB, "device_free": 0}
    entries = [made(0), made(1), failed, *freed(0), *freed(1)]
    found = past(entries, [Mark(position=0, phase=Phase.FORWARD), Mark(position=4, phase=Phase.LOAD)])
    assert found.failure is not None
    assert (found.failure.tried, found.failure.phase) == (3 * KIB, Phase.FORWARD)
    assert found.at_the_end() == (("activations", 2 * KIB),)


def test_two_blocks_of_a_workspace_s_size_that_stay_are_workspaces() -> None:
    entries = [made(0, 8 * KIB), *freed(0), *(made(address, 8 * KIB) for address in (1, 2, 3, 4))]
    named = Mark(position=4, noted=((1, (*WEIGHT[:3], (8 * KIB,), Dtype.UINT8)),))
    found = past(entries, [named], workspace=8 * KIB)
    assert [tag[0] for tag in found.trace.tags] == [
        "activations",
        "blocks",
        "workspace",
        "workspace",
        "activations",
    ]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 5000)), max_size=60))
def test_shares_add_up_to_what_is_in_use_at_the_highest_moment(steps: list[tuple[int, int]]) -> None:
    entries: list[dict[str, Any]] = []
    there: dict[int, int] = {}
    amounts = []
    for address, size in steps:
        if address in there:
            del there[address]
            entries += freed(address)
        else:
            there[address] = size
            entries.append(made(address, size))
        amounts.append((sum(-(-size // ROUNDING) * ROUNDING for size in there.values()), sum(there.values())))
    found = past(entries, [])
    most = max(amounts, default=(0, 0), key=lambda amount: amount[0])
    assert sum(size for _, size in found.at_the_peak()) == most[1]
    assert sum(size for _, size in found.at_the_end()) == sum(there.values())
