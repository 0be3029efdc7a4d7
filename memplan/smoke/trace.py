"""The allocations of the real classes: transformers' model and PEFT's adapters, on fake tensors."""

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
from memplan.domain.workload import Task, Workload
from memplan.smoke import engine
from memplan.smoke.autocast import cuda_lists
from memplan.smoke.functions import cuda_functions
from memplan.smoke.generating import Generating
from memplan.smoke.labels import Labels, scopes
from memplan.smoke.model import build, load, quietly
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
    """Train for two steps without bytes, or generate text once.

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
            return _run(recorder, workload, model)
    finally:
        if collecting:
            gc.enable()


def _run(recorder: Recorder, workload: Workload, model: Any) -> Traced:
    recorder.start()
    load(model)
    assert isinstance(workload.model, Architecture)
    labels = Labels(model, workload.model.groups)
    for tensor, component, name in labels.parameters():
        recorder.relabel(tensor, component, name, "parameter")
    for tensor, component, name in labels.buffers():
        recorder.relabel(tensor, component, name, "buffer")

    with scopes(recorder, labels):
        # Kept until the trace is taken: what it holds is not freed by the steps.
        run = (_generated if workload.task is Task.GENERATE else _trained)(recorder, workload, labels)
    found = Traced(trace=recorder.trace.closed(), reads=dict(recorder.reads))
    del run
    return found


def _trained(recorder: Recorder, workload: Workload, labels: Labels) -> Training:
    run = Training(recorder, workload, labels)
    run.train(STEPS)
    return run


def _generated(recorder: Recorder, workload: Workload, labels: Labels) -> Generating:
    """One call of ``generate``, which is not asked whether it is over: that depends on tokens."""
    run = Generating(recorder, workload, labels)
    tokens = iter(range(workload.generate.new_tokens))
    run.inner._has_unfinished_sequences = lambda *_, **__: next(tokens, None) is not None
    with quietly():
        run.step()
    # A call is not repeated as a step is.
    recorder.trace.cycles.clear()
    return run


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
