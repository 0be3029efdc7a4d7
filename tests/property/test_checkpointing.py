"""Recomputing more never allocates more, whatever the model: what a search for small changes rests on."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Checkpointing, Workload
from memplan.estimate.simulation import least_allocated
from memplan.levers import checkpointing
from memplan.levers.cost import slowdown
from tests.property.test_repetition import AMPERE, trainings


def allocated(workload: Workload, setting: Checkpointing) -> int:
    shape = workload.model
    assert isinstance(shape, Architecture)
    return least_allocated(replace(workload, checkpointing=setting), shape, AMPERE)


def offered(workload: Workload) -> list[Checkpointing]:
    plain = replace(workload, checkpointing=Checkpointing())
    return [option.changes["checkpointing"] for option in checkpointing.options(plain, None)]


def hidden_states(workload: Workload) -> int:
    assert isinstance(workload.model, Architecture)
    tokens = workload.batch.micro * max(workload.sequence.length, 200)
    return 4 * tokens * workload.model.hidden_size


@settings(max_examples=12, deadline=None)
@given(trainings())
def test_the_last_setting_offered_allocates_least(workload: Workload) -> None:
    """A hidden state or two may go the other way, of the block that backward starts with."""
    found = [allocated(workload, setting) for setting in offered(workload)]
    assert not found or found[-1] <= min(found) + 2 * hidden_states(workload)


@settings(max_examples=12, deadline=None)
@given(trainings(), st.data())
def test_one_more_block_that_is_recomputed_never_allocates_more(
    workload: Workload, data: st.DataObject
) -> None:
    shape = workload.model
    assert isinstance(shape, Architecture)
    many = data.draw(st.sets(st.integers(0, shape.depth - 1), min_size=2))
    few = data.draw(st.sets(st.sampled_from(sorted(many)), min_size=1))
    more, less = (
        allocated(workload, Checkpointing(every=1, blocks=tuple(sorted(found)))) for found in (many, few)
    )
    assert more <= less + 2 * hidden_states(workload)


@settings(max_examples=25, deadline=None)
@given(trainings())
def test_the_first_setting_offered_is_the_fastest(workload: Workload) -> None:
    plain = replace(workload, checkpointing=Checkpointing())
    times = [slowdown(plain, replace(plain, checkpointing=setting), None) for setting in offered(workload)]
    assert times == sorted(times)
