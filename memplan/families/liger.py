"""Liger's kernels in the place of a model's own ops, as far as they are simulated."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.kernels import GLU, RMS_NORM, ROPE
from memplan.domain.liger import OUT_OF_PLACE, SIMULATED
from memplan.domain.workload import Workload
from memplan.simulator.patches import NONE, Patches


def patches(shape: Architecture, workload: Workload) -> Patches:
    """The replacements that are simulated, of those a run asks for."""
    asked = workload.kernels.liger
    if not asked or workload.framework.code != "transformers":
        return NONE
    on = [name for name in SIMULATED.get(shape.model_type, ()) if name in asked]
    return Patches(
        rms_norm=RMS_NORM in on,
        in_place=shape.model_type not in OUT_OF_PLACE,
        glu=GLU in on,
        rope=ROPE in on,
    )
