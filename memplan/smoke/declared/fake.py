"""Declared tensors without bytes: any size, in the blocks that a GPU's allocator would give them."""

from __future__ import annotations

import torch

from memplan.domain.architecture import DeclaredModel
from memplan.domain.dtype import Dtype
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from memplan.estimate.device import device
from memplan.smoke.declared.stand_ins import stand_ins, verified


def compare(workload: Workload, target: Target | None) -> Comparison:
    """The prediction for a GPU like ``target``, and the same of tensors that torch makes on no device."""
    assert isinstance(workload.model, DeclaredModel)
    capability = target.compute_capability if target else ASSUMED_CAPABILITY
    expected = device(workload, target, trace_of(workload, capability))
    seen = device(workload, target, _trace(workload.model))
    return Comparison(
        device="fake",
        predicted=Measurement.of(expected),
        measured=Measurement.of(seen),
        notes=(
            f"made as declared with torch {torch.__version__.partition('+')[0]}, of tensors without bytes:"
            " nothing is computed with them",
        ),
        checks=tuple(verified(workload.model)),
    )


def _trace(model: DeclaredModel) -> Trace:
    """What torch says of their storages: on the ``meta`` device they have every size and no bytes."""
    trace = Trace()
    trace.enter(Phase.LOAD)
    for tensor, component, name, role in stand_ins(model, "meta"):
        size = tensor.untyped_storage().nbytes()
        trace.allocate(size, (component, name, role, (size,), Dtype.UINT8))
    return trace
