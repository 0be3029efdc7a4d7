"""Declared tensors in this machine's memory, watched twice: as resident memory and as allocations.

A card that is emulated is a budget. The first tensor beyond it is refused, as the card would refuse it; what
was made before is what was alive. No more than the budget is ever taken then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.measurement import Comparison
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from memplan.simulator.kernels import HOST
from memplan.smoke.cpu import budget, resident
from memplan.smoke.cpu.events import Events
from memplan.smoke.cpu.prediction import measurement, with_resident
from memplan.smoke.cpu.surroundings import check_memory, own_words, use_libraries, without_collector
from memplan.smoke.declared.stand_ins import before, first_beyond, stand_ins, verified
from memplan.smoke.device import Asked

HINT = "run it within less: --cap SIZE; or on tensors without bytes: --device fake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The most that was resident, what was before anything was made, and whether the kernel kept it."""

    most: int
    baseline: int
    exact: bool


def compare(workload: Workload, asked: Asked) -> Comparison:
    """Make all declared tensors, or those that fit ``asked.budget``, and put both sides beside each other.

    Raises:
        InputError: they take more memory than is free.
    """
    assert isinstance(workload.model, DeclaredModel)
    expected = trace_of(workload, HOST)
    refused = first_beyond(workload.model, asked.budget)
    model = before(workload.model, refused)
    check_memory(sum(model.sizes().values()), HINT)
    with without_collector(), own_words():
        seen = _allocations(model)
        asked.advance()
        held = _resident(model)
        asked.advance()
    if refused is not None:
        size = workload.model.sizes()[refused]
        seen.allocate(size, (refused, refused, "", (size,), Dtype.UINT8))
    found = Comparison(
        device="cpu",
        predicted=measurement(workload, expected, held.baseline),
        measured=with_resident(measurement(workload, seen), {Phase.LOAD: held.most}),
        notes=tuple(_notes(model, asked, held)),
        checks=() if refused is not None else tuple(verified(model, asked.budget)),
    )
    if asked.budget is None:
        return found
    return budget.within(found, workload, seen, expected, asked.budget)


def _allocations(model: DeclaredModel) -> Trace:
    """What PyTorch's profiler sees of making them; no page is touched yet."""
    events = Events()
    with events.watching(()) as found:
        made = list(stand_ins(model))
        events.name(made)
    return found[0]


def _resident(model: DeclaredModel) -> Held:
    """The resident set with every page of theirs written to."""
    # What PyTorch loads when it is first used is none of the model's.
    use_libraries()
    resident.tidy()
    baseline = resident.now()
    meter = resident.Resident()
    meter.enter(Phase.LOAD)
    made = list(stand_ins(model, written=True))
    meter.finish()
    del made
    resident.tidy()
    return Held(most=meter.phases[Phase.LOAD], baseline=baseline, exact=meter.exact)


def _notes(model: DeclaredModel, asked: Asked, held: Held) -> Iterator[str]:
    made = sum(1 for size in model.sizes().values() if size)
    tensors = "a tensor" if made == 1 else f"{made} tensors"
    yield (
        f"{tensors} made as declared, with torch {torch.__version__.partition('+')[0]} on the CPU: nothing"
        " is computed with them"
    )
    if asked.budget is not None:
        yield f"{asked.budget.rounded()} may be allocated"
    yield f"{Bytes(held.baseline).rounded()} were resident before they were made"
    if not held.exact:
        yield "the resident set was read when they were made: this system does not keep the highest"
