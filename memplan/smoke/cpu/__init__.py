"""The CPU as a device: real steps, watched twice.

First ``steps`` steps run undisturbed, while the kernel keeps the highest resident set of every phase; then
two more, as a new run, whose allocations PyTorch's profiler writes down one by one.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psutil
import torch
from torch.nn import functional

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.target import Target
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Attention, Task, Workload
from memplan.smoke.cpu import budget, resident
from memplan.smoke.cpu.conditions import like_a_gpu
from memplan.smoke.cpu.events import Events
from memplan.smoke.cpu.limits import refuse
from memplan.smoke.cpu.prediction import measurement, on_top, predicted, with_resident
from memplan.smoke.device import Asked
from memplan.smoke.generating import Generating
from memplan.smoke.labels import Labels, scopes
from memplan.smoke.libraries import require
from memplan.smoke.meter import Named
from memplan.smoke.model import build, initialise, load
from memplan.smoke.scaled import depths, extrapolated, shallower
from memplan.smoke.training import STEPS, Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What both runs showed: allocations, resident sets by phase, and how much was resident before them."""

    trace: Trace
    phases: dict[Phase, int]
    baseline: int
    exact: bool


class Cpu:
    """This machine's processor and its memory; ``scaled`` runs a deep model at two smaller depths."""

    name = "cpu"

    def __init__(self, *, scaled: bool = False) -> None:
        self.scaled = scaled

    def pieces(self, asked: Asked) -> int:
        """Every step, and those that are watched event by event; all of it twice for two depths."""
        return (asked.steps + STEPS) * (2 if self.scaled else 1)

    def compare(self, workload: Workload, _target: Target | None, asked: Asked) -> Comparison:
        """Predict, run, and put both side by side; the GPU it is meant for is of no consequence here.

        Raises:
            InputError: what the workload asks for does not run on a CPU, or takes more memory than is free.
            FieldError: it is not simulated.
        """
        refuse(workload)
        workload = replace(workload, framework=require(workload))
        expected = predicted(workload)
        if self.scaled:
            return self._scaled(workload, measurement(workload, expected), asked)
        _check_memory(measurement(workload, expected).peak_allocated)
        seen = observe(workload, asked)
        found = Comparison(
            device=self.name,
            predicted=measurement(workload, expected, seen.baseline),
            measured=with_resident(measurement(workload, seen.trace), seen.phases),
            notes=tuple(_notes(workload, asked, seen)),
        )
        return found if asked.budget is None else _within(found, workload, seen.trace, expected, asked.budget)

    def _scaled(self, workload: Workload, expected: Measurement, asked: Asked) -> Comparison:
        """Run it at two smaller depths; the prediction stays that of the whole model."""
        found = depths(workload, lambda small: measurement(small, predicted(small)))
        smaller = [shallower(workload, layers) for layers in (found.fewer, found.more)]
        _check_memory(measurement(smaller[1], predicted(smaller[1])).peak_allocated)
        seen = [observe(small, asked) for small in smaller]
        measured = [
            with_resident(measurement(small, one.trace), one.phases)
            for small, one in zip(smaller, seen, strict=True)
        ]
        said = (
            f"run with {found.fewer} and with {found.more} of {found.whole} layers; what was seen is scaled"
            " up from these (resident sets by what is allocated), the prediction is for all of them"
        )
        return Comparison(
            device=self.name,
            predicted=on_top(expected, seen[1].baseline),
            measured=extrapolated(measured[0], measured[1], found),
            notes=(said, *_notes(workload, asked, seen[1])),
        )


def _within(found: Comparison, workload: Workload, seen: Trace, expected: Trace, limit: int) -> Comparison:
    """The same within a budget: a run that goes beyond it ends there; nothing is said of resident sets."""
    shortage = budget.shortage(workload, limit, seen, expected)
    if shortage is None:
        return found
    return replace(
        found,
        predicted=measurement(workload, budget.survived(expected, limit)),
        measured=measurement(workload, budget.survived(seen, limit)),
        shortage=shortage,
        foreseen=budget.foreseen(limit, expected),
    )


def observe(workload: Workload, asked: Asked) -> Seen:
    """Build the model, run it, and watch.

    Raises:
        InputError: the libraries refuse to run it.
    """
    assert isinstance(workload.model, Architecture)
    model = build(workload)
    with _without_collector(), _own_words():
        _use_libraries()
        resident.tidy()
        baseline = resident.now()
        meter = resident.Resident()
        meter.enter(Phase.LOAD)
        load(model)
        initialise(model)
        labels = Labels(model, workload.model.groups)
        _run(_loop(meter, workload, labels), meter, asked.steps, asked)
        meter.finish()
        for parameter in model.parameters():
            parameter.grad = None
        resident.tidy()
        events = Events()
        with events.watching(_weights(labels)) as found:
            loop = _loop(events, workload, labels)
            _run(loop, events, 1 if workload.task is Task.GENERATE else STEPS, asked)
    return Seen(trace=found[0], phases=meter.phases, baseline=baseline, exact=meter.exact)


def _use_libraries() -> None:
    """A step of a few numbers: what PyTorch loads when it is first used is none of the model's."""
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.GELU())
    optimizer = torch.optim.AdamW(layer.parameters())
    for _ in range(2):
        functional.cross_entropy(layer(torch.ones(64, 64)), torch.ones(64, dtype=torch.int64)).backward()
        optimizer.step()
        optimizer.zero_grad()


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


@contextmanager
def _without_collector() -> Iterator[None]:
    """Lifetimes follow from references alone."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _own_words() -> Iterator[None]:
    """What PyTorch raises, as an error of the input: the model was asked for something it cannot do."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"the real run broke off: {said}") from error


def _check_memory(needed: int) -> None:
    """Refuse to fill the machine.

    Raises:
        InputError: more is needed than is free.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"the run takes {Bytes(needed).rounded()} and {Bytes(free).rounded()} of host memory are free:"
            f" {Bytes(needed - free).rounded()} are missing",
            hint="run it scaled down to a few layers: --scaled; or on tensors without bytes: --device fake",
        )


def _notes(workload: Workload, asked: Asked, seen: Seen) -> Iterator[str]:
    releases = workload.framework
    steps = "step" if asked.steps == 1 else "steps"
    what = "calls of generate" if workload.task is Task.GENERATE else f"optimizer {steps}"
    yield (
        f"{asked.steps} {what} with torch {releases.torch} and transformers {releases.transformers} on one"
        " thread, then more, allocation by allocation"
    )
    yield f"{Bytes(seen.baseline).rounded()} were resident before the model was loaded"
    if not seen.exact:
        yield "resident sets were read between phases: this system does not keep the highest"
    if workload.attention is Attention.SDPA:
        yield "scaled_dot_product_attention ran the kernel PyTorch has for a CPU, which is what was predicted"
    if workload.precision.autocast is not None:
        yield "autocast kept CUDA's lists of ops"
