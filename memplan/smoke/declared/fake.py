"""Declared tensors without bytes: any size, in the blocks that a GPU's allocator would give them."""

from __future__ import annotations

import torch
from torch._subclasses import fake_tensor

from memplan.domain.architecture import DeclaredModel
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from memplan.estimate.device import device
from memplan.smoke.declared.stand_ins import NOT_RUN, stand_ins
from memplan.smoke.recorder import Recorder


def compare(workload: Workload, target: Target | None) -> Comparison:
    """The prediction for a GPU like ``target``, and the same of tensors that torch makes on no device."""
    capability = target.compute_capability if target else ASSUMED_CAPABILITY
    expected = device(workload, target, trace_of(workload, capability))
    seen = device(workload, target, _trace(workload, capability))
    return Comparison(
        device="fake",
        predicted=Measurement.of(expected),
        measured=Measurement.of(seen),
        notes=(
            f"made as declared with torch {torch.__version__.partition('+')[0]}, of tensors without bytes:"
            " nothing is computed with them",
        ),
        checks=(("every tensor was made with its declared shape and element type", True), NOT_RUN),
    )


def _trace(workload: Workload, capability: tuple[int, int]) -> Trace:
    assert isinstance(workload.model, DeclaredModel)
    recorder = Recorder(capability, answer=True)
    with fake_tensor.FakeTensorMode(), recorder:
        recorder.start()
        made = list(stand_ins(workload.model))
        recorder.name(made)
        # Taken while they are there.
        return recorder.trace.closed()
