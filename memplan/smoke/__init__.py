"""Runs of the real libraries, to hold the simulator against: the only package that knows torch.

``fake`` trains transformers' and PEFT's own classes on tensors without bytes and compares what they
allocate with what was predicted. torch and its friends are imported when it is called, and not before.
"""

from __future__ import annotations

from memplan.domain.measurement import Comparison
from memplan.domain.target import Target
from memplan.domain.workload import Workload

__all__ = ["fake"]


def fake(workload: Workload, target: Target | None = None) -> Comparison:
    """Compare the prediction for a workload with the trace of the real classes on fake tensors.

    Both are for a GPU like ``target``, or one of compute capability 8.0, and for the installed libraries.

    Raises:
        InputError: the libraries are not installed, or the workload asks for something that is not traced.
        FieldError: the installed transformers does not know the model.
    """
    from memplan.smoke.libraries import require
    from memplan.smoke.limits import refuse

    refuse(workload)
    framework = require(workload)
    from memplan.smoke.compare import compare

    return compare(workload, target, framework)
