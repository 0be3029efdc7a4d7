"""One workload run on the processor, and watched twice, the second time allocation by allocation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from memplan.domain.architecture import Architecture
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Task, Workload
from memplan.smoke.cpu import resident
from memplan.smoke.cpu.conditions import like_a_gpu
from memplan.smoke.cpu.events import Events
from memplan.smoke.cpu.surroundings import own_words, without_collector
from memplan.smoke.cpu.warming import warm
from memplan.smoke.device import Asked
from memplan.smoke.generating import Generating
from memplan.smoke.labels import Labels, scopes
from memplan.smoke.meter import Named
from memplan.smoke.model import build, changed_in_memory, filled
from memplan.smoke.quantized import scales
from memplan.smoke.training import STEPS, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What both runs showed: allocations, resident sets by phase, and how much was resident before them.

    ``scratch`` is left out of the allocations: what a product took for itself.
    """

    trace: Trace
    phases: dict[Phase, int]
    baseline: int
    exact: bool
    scratch: int


def observe(workload: Workload, asked: Asked) -> Seen:
    """Build the model, run it, and watch.

    Raises:
        InputError: the libraries refuse to run it.
    """
    empty = build(workload, late=True)
    with without_collector(), own_words():
        warm(workload)
        resident.tidy()
        baseline = resident.now()
        meter = resident.Resident()
        meter.enter(Phase.LOAD)
        labels = _filled(empty, workload)
        loop = _loop(meter, workload, labels)
        _run(loop, meter, asked.steps, asked)
        meter.finish()
        asked.done(loop)
        del loop
        for parameter in labels.model.parameters():
            parameter.grad = None
        if changed_in_memory(workload):
            del empty, labels
            events, trace = _watched_loading(workload, asked)
        else:
            resident.tidy()
            events, trace = _watched(workload, labels, asked)
    return Seen(
        trace=trace, phases=meter.phases, baseline=baseline, exact=meter.exact, scratch=events.scratch
    )


def _filled(empty: Any, workload: Workload) -> Labels:
    assert isinstance(workload.model, Architecture)
    return Labels(filled(empty, workload), workload.model.groups)


def _watched(workload: Workload, labels: Labels, asked: Asked) -> tuple[Events, Trace]:
    """The allocations of a run, with weights that are there already."""
    events = Events()
    with events.watching(_weights(labels)) as found:
        _rest(events, workload, labels, asked)
    return events, found[0]


def _watched_loading(workload: Workload, asked: Asked) -> tuple[Events, Trace]:
    """Those of loading too, with a model that is made anew: changing weights takes memory of its own."""
    empty = build(workload, late=True)
    resident.tidy()
    events = Events()
    with events.watching(()) as found:
        labels = _filled(empty, workload)
        events.name(_weights(labels))
        _rest(events, workload, labels, asked)
    return events, found[0]


def _rest(events: Events, workload: Workload, labels: Labels, asked: Asked) -> None:
    loop = _loop(events, workload, labels)
    _run(loop, events, 1 if workload.task is Task.GENERATE else STEPS, asked)


def _loop(meter: Any, workload: Workload, labels: Labels) -> Training | Generating:
    kind = Generating if workload.task is Task.GENERATE else Training
    return kind(meter, workload, labels)


def _run(loop: Training | Generating, listener: Any, steps: int, asked: Asked) -> None:
    with like_a_gpu(loop.workload, listener), scopes(listener, loop.labels):
        for _ in range(steps):
            loop.step()
            asked.advance()


def _weights(labels: Labels) -> Iterator[Named]:
    for tensor, component, name in labels.parameters():
        yield tensor, component, name, "parameter"
    for tensor, component, name in labels.buffers():
        yield tensor, component, name, "buffer"
    yield from scales(labels.model, labels.names)
