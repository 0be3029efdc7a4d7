"""Mechanisms run for real on this machine's processor, beside what their programs foretell.

``runner`` says how their libraries are used; of a round that does not fit the machine ``exhausted`` sees the
beginning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import psutil
import torch

from memplan import programs
from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.churn import Churn
from memplan.domain.measurement import Comparison
from memplan.domain.setting import CPU
from memplan.domain.trace import Phase, Trace
from memplan.domain.wording import listed
from memplan.domain.workload import Workload
from memplan.estimate.mechanism import disk, settings_of, trace_of
from memplan.simulator.kernels import HOST
from memplan.smoke.cpu import budget, resident
from memplan.smoke.cpu.events import Events
from memplan.smoke.cpu.limited import possible
from memplan.smoke.cpu.prediction import Shares, measurement, with_resident
from memplan.smoke.cpu.surroundings import check_memory
from memplan.smoke.declared.stand_ins import stand_ins
from memplan.smoke.device import Asked
from memplan.smoke.systems.exhausted import round_within
from memplan.smoke.systems.runner import RUNNERS, Filing, Scaled, conditions, module_of, runner

__all__ = ["RUNNERS", "on_cpu"]

ACTIVATIONS = "activations"
"""What the profiler sees made in a forward pass, whatever it is for."""


def on_cpu(workload: Workload, asked: Asked) -> Comparison:
    """Run a mechanism with its settings on the CPU, and compare.

    Raises:
        InputError: it cannot be run here.
        FieldError: two settings contradict each other.
    """
    assert isinstance(workload.model, DeclaredModel)
    whole = cast(DeclaredModel, workload.changed("device", CPU).model)
    model = _within_reach(whole)
    workload = replace(workload, model=model)
    expected = trace_of(model, HOST)
    predicted = measurement(workload, expected)
    if asked.budget is not None and _dying(asked.budget, workload, expected):
        return _exhausted(workload, model, asked.budget, expected)
    check_memory(predicted.peak_allocated, _smaller(model))
    found, phases, baseline, exact, filing = _observe(model, asked)
    program = programs.counted(model.mechanism)
    foretold = program.churn(settings_of(model)) if program else None
    measured = with_resident(measurement(workload, found), phases)
    measured = replace(measured, churn=Churn.of(found) if program else None)
    foretold_files, files = _files(model, filing)
    comparison = Comparison(
        device=CPU,
        predicted=replace(measurement(workload, expected, baseline), churn=foretold, disk=foretold_files),
        measured=replace(measured, disk=files),
        notes=(
            *_shrunk(whole, model),
            *_notes(model, asked, baseline, exact=exact),
            *((filing.proof,) if filing is not None and filing.proof else ()),
        ),
    )
    if asked.budget is not None:
        comparison = budget.within(comparison, workload, found, expected, asked.budget)
    return _as_seen(comparison)


def _dying(limit: Bytes, workload: Workload, expected: Trace) -> bool:
    """Whether a run goes beyond a limit and the machine alike, and the machine holds what comes before."""
    if not possible():
        return False
    free = psutil.virtual_memory().available
    before = measurement(workload, budget.survived(expected, limit)).peak_allocated
    return (
        budget.foreseen(limit, expected) and before <= free < measurement(workload, expected).peak_allocated
    )


def _exhausted(workload: Workload, model: DeclaredModel, limit: Bytes, expected: Trace) -> Comparison:
    """The beginning of a round, until it is out of memory."""
    kept = min(limit, Bytes(psutil.virtual_memory().available))
    seen = round_within(model, kept)
    found = Comparison(
        device=CPU,
        predicted=measurement(workload, expected),
        measured=measurement(workload, seen),
        notes=("the kernel refused the request: RLIMIT_DATA was the budget, or what the machine has free",),
    )
    return _as_seen(budget.within(found, workload, seen, expected, limit))


def in_small(workload: Workload) -> bool:
    """Whether what is run of a mechanism is not what was asked for, because that would take hours."""
    assert isinstance(workload.model, DeclaredModel)
    return settings_of(_within_reach(workload.model)) != settings_of(workload.model)


def _within_reach(model: DeclaredModel) -> DeclaredModel:
    """The model with settings that its runner can do in seconds."""
    module = module_of(model)
    if not isinstance(module, Scaled):
        return model
    return replace(model, values=tuple(module.scaled(settings_of(model)).items()))


def _shrunk(whole: DeclaredModel, model: DeclaredModel) -> Iterator[str]:
    """What a run in small differs in."""
    asked = dict(whole.values)
    changes = [f"{name} {asked[name]:,} → {value:,}" for name, value in model.values if asked[name] != value]
    if changes:
        yield f"as asked it would take hours, so it is run, and foretold, with {', '.join(changes)}"


def _files(model: DeclaredModel, filing: Filing | None) -> tuple[Shares, Shares]:
    """What files take, as foretold and as seen, if the run says so."""
    foretold = Bytes(sum(part.bytes for part in disk(model)))
    if filing is None or not (foretold or filing.disk):
        return (), ()
    return (("files", foretold),), (("files", filing.disk),)


def _smaller(model: DeclaredModel) -> str:
    """How to run what does not fit this machine."""
    assert model.mechanism is not None
    numbers = [
        item.name
        for item in programs.find(model.mechanism).SETTINGS
        if not item.choices and not isinstance(item.default, bool)
    ]
    return f"run it smaller with --set ({listed(numbers)}), or as memplan fit plans it"


def _as_seen(found: Comparison) -> Comparison:
    """The same with everything that is predicted to be made in a round as one component.

    The profiler has names only for what is there from the start.
    """
    shares = _together(found.predicted.components, found.measured.components)
    died = found.shortage
    return replace(
        found,
        predicted=replace(found.predicted, components=shares),
        shortage=died and replace(died, predicted=_together(died.predicted, died.alive)),
    )


def _together(predicted: Shares, seen: Shares) -> Shares:
    names = {name for name, _ in seen} - {ACTIVATIONS}
    named = tuple(share for share in predicted if share[0] in names)
    made = sum(size for name, size in predicted if name not in names)
    return (*named, (ACTIVATIONS, Bytes(made))) if made else named


def _observe(model: DeclaredModel, asked: Asked) -> tuple[Any, dict[Phase, int], int, bool, Filing | None]:
    """Allocations of one round, resident sets of several by phase, what was resident before, and files."""
    with conditions():
        resident.tidy()
        baseline = resident.now()
        meter = resident.Resident()
        meter.enter(Phase.LOAD)
        declared = list(stand_ins(model, written=True))
        running = runner(model)
        for _ in range(asked.steps):
            running.step(meter)
            asked.advance()
        meter.finish()
        resident.tidy()
        events = Events()
        with events.watching([*declared, *running.tensors()]) as found:
            running.step(events)
        asked.advance()
    filing = running if isinstance(running, Filing) else None
    return found[0], meter.phases, baseline, meter.exact, filing


def _notes(model: DeclaredModel, asked: Asked, baseline: int, *, exact: bool) -> Iterator[str]:
    rounds = "round" if asked.steps == 1 else "rounds"
    yield (
        f"{asked.steps} {rounds} of {model.mechanism} with torch {torch.__version__} on one thread of the"
        " CPU, then one more, allocation by allocation"
    )
    yield f"{Bytes(baseline).rounded()} were resident before it was made"
    if not exact:
        yield "resident sets were read between phases: this system does not keep the highest"
