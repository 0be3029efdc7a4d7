"""One run of a workload on a GPU: what was seen of it, whether it went through or not."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.errors import InputError
from memplan.domain.workload import Task, Workload
from memplan.simulator.tensor import cublas_workspace
from memplan.smoke.declared.stand_ins import stand_ins
from memplan.smoke.device import Asked
from memplan.smoke.generating import Generating
from memplan.smoke.gpu.driver import Driver, Usage
from memplan.smoke.gpu.emulation import Card
from memplan.smoke.gpu.history import Past, past
from memplan.smoke.gpu.meter import PhaseMeter
from memplan.smoke.labels import Labels, scopes
from memplan.smoke.model import build, initialise, load
from memplan.smoke.training import Training

LAST_WORDS = 300
"""Characters of an error that are shown."""

_NO_KERNEL = "No available kernel"
"""What PyTorch says where attention may use none of the kernels that could do it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the meter and the allocator's history have to tell.

    ``usage`` holds the counters at the end; ``words`` are PyTorch's if it ran out of memory.
    """

    meter: PhaseMeter
    past: Past
    usage: Usage
    words: str | None = None


def run(driver: Driver, workload: Workload, card: Card, asked: Asked) -> Seen:
    """Build the model on the GPU and let it run; the allocator's history is left to be dumped.

    Garbage collection is off meanwhile: lifetimes follow from references.

    Raises:
        InputError: the libraries refuse to run it, or attention with the kernels it is given.
    """
    meter = PhaseMeter(driver)
    words = None
    with ExitStack() as stack:
        stack.enter_context(_environment(dict(card.environment)))
        stack.enter_context(_without_collection())
        if card.kernels is not None:
            stack.enter_context(driver.attending(card.kernels))
        try:
            _steps(driver, meter, workload, asked)
        except driver.shortage as error:
            words = str(error)
        except (RuntimeError, NotImplementedError) as error:
            raise _broken(error, card) from error
        # Before the counters move on: the exception's frames are gone, and with them what they held.
        found = past(driver.history(), meter.marks, cublas_workspace(card.capability))
        usage = driver.usage()
        meter.settle()
    return Seen(meter=meter, past=found, usage=usage, words=words)


def _broken(error: Exception, card: Card) -> InputError:
    """What PyTorch raises, as an error of the input: the model was asked for something it cannot do."""
    if _NO_KERNEL in str(error):
        kernels = ", ".join(str(kernel) for kernel in card.kernels or ())
        return InputError(
            f"attention cannot be computed here with {kernels} alone",
            hint="ask for another attention with --set attention=sdpa",
        )
    said = " ".join(str(error).split())[:LAST_WORDS]
    return InputError(f"the real run broke off: {said}")


def _steps(driver: Driver, meter: PhaseMeter, workload: Workload, asked: Asked) -> None:
    if isinstance(workload.model, DeclaredModel):
        _declared(driver, meter, workload.model)
        return
    model = build(workload)
    with torch.device(driver.place):
        load(model)
    initialise(model)
    # Drawing weights takes memory that loading them does not.
    driver.give_back()
    driver.restart()
    assert isinstance(workload.model, Architecture)
    labels = Labels(model, workload.model.groups)
    meter.name((*_used(labels.parameters(), "parameter"), *_used(labels.buffers(), "buffer")))
    kind = Training if workload.task is Task.TRAIN else Generating
    going = kind(meter, workload, labels)
    with scopes(meter, labels), meter.watching(labels.head):
        for _ in range(asked.steps):
            going.step()
            asked.advance()
    meter.settle()
    asked.done(going)


def _declared(driver: Driver, meter: PhaseMeter, model: DeclaredModel) -> None:
    """Make what was declared: tensors, and nothing that is done with them."""
    driver.restart()
    made = []
    for named in stand_ins(model, driver.place):
        made.append(named)
        meter.name((named,))


def _used(named: Iterator[tuple[Any, str, str]], use: str) -> Iterator[tuple[Any, str, str, str]]:
    for tensor, component, name in named:
        yield tensor, component, name, use


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Variables that libraries read when they begin, until the block ends."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _without_collection() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
