"""The allocations of the real classes: transformers' model and PEFT's adapters, trained on fake tensors."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from torch._subclasses import fake_tensor

from memplan.domain.architecture import Architecture
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.smoke import engine
from memplan.smoke.autocast import cuda_lists
from memplan.smoke.functions import cuda_functions
from memplan.smoke.labels import Labels, scopes
from memplan.smoke.model import build, load
from memplan.smoke.recorder import Recorder
from memplan.smoke.training import STEPS, Training

UNTRACEABLE = (fake_tensor.DataDependentOutputException, fake_tensor.DynamicOutputShapeException)
"""What fake tensors raise where a size depends on a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A trace, and how often the code asked for numbers that fake tensors do not have, by op."""

    trace: Trace
    reads: Mapping[str, int]


def trace(workload: Workload, capability: tuple[int, int]) -> Traced:
    """Train for two steps without bytes.

    Questions about data are answered as for a batch without padding, or with it where the workload says
    that a mask is made. Garbage collection is off meanwhile: lifetimes follow from references.

    Raises:
        FieldError: the installed transformers does not know the model, or knows another one by its name.
    """
    model = build(workload)
    recorder = Recorder(
        capability,
        answer=not workload.causal_mask,
        scalars_on_host=workload.optimizer.implementation != "fused",
    )
    collecting = gc.isenabled()
    gc.disable()
    try:
        with fake_tensor.FakeTensorMode(), recorder, _cuda(recorder, workload), _values_are_read():
            recorder.in_backward = True
            engine.sum_of_two()
            recorder.in_backward = False
            return _train(recorder, workload, model)
    finally:
        if collecting:
            gc.enable()


def _train(recorder: Recorder, workload: Workload, model: Any) -> Traced:
    recorder.start()
    load(model)
    assert isinstance(workload.model, Architecture)
    labels = Labels(model, workload.model.groups)
    for tensor, component, name in labels.parameters():
        recorder.relabel(tensor, component, name, "parameter")
    for tensor, component, name in labels.buffers():
        recorder.relabel(tensor, component, name, "buffer")

    run = Training(recorder, workload, labels)
    with scopes(recorder, labels):
        run.train(STEPS)
    # Taken while the run is there: what it holds is not freed by the steps.
    return Traced(trace=recorder.trace.closed(), reads=dict(recorder.reads))


@contextmanager
def _cuda(recorder: Recorder, workload: Workload) -> Iterator[None]:
    """Every rule by which a GPU does otherwise than a CPU."""
    with ExitStack() as stack:
        stack.enter_context(cuda_lists())
        stack.enter_context(cuda_functions(workload.attention, workload.framework, recorder))
        yield


@contextmanager
def _values_are_read() -> Iterator[None]:
    """transformers makes masks for fake tensors without asking what is in them; here it asks."""
    from transformers.utils import import_utils

    if not hasattr(import_utils, "is_fake_tensor"):
        yield
        return
    # Not ``return_value=False``: a mock remembers its last arguments, and so keeps a tensor.
    with mock.patch.object(import_utils, "is_fake_tensor", new=_no):
        yield


def _no(_: object) -> bool:
    return False
