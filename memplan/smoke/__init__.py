"""Runs of the real libraries, to hold the simulator against: the only package that knows torch.

``fake`` trains transformers' and PEFT's own classes on tensors without bytes and compares what they
allocate with what was predicted; ``real`` runs them on a device and looks at its memory. torch and its
friends are imported when these are called, and not before.
"""

from __future__ import annotations

from collections.abc import Callable

from memplan.domain.bytes import Bytes
from memplan.domain.measurement import Comparison
from memplan.domain.target import Target
from memplan.domain.workload import Workload

__all__ = ["fake", "pieces", "real"]


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


def real(
    workload: Workload,
    target: Target | None = None,
    *,
    device: str = "auto",
    steps: int = 3,
    budget: Bytes | None = None,
    scaled: bool = False,
    advance: Callable[[], None] | None = None,
) -> Comparison:
    """Run a workload on a device of this machine, and compare what it takes with the prediction.

    Args:
        workload: what to run.
        target: the GPU it is meant for.
        device: ``cpu``, or the best there is (``auto``).
        steps: optimizer steps, or calls of ``generate``.
        budget: bytes that may be allocated; beyond them the run is out of memory.
        scaled: run a deep model at two smaller depths, and scale up what was seen.
        advance: called after every step, as often as ``pieces`` says.

    Raises:
        InputError: the libraries are not installed, or the run cannot be made here.
        FieldError: the workload is not simulated, or the installed transformers does not know the model.
    """
    from memplan.smoke.libraries import require

    require(workload)
    from memplan.smoke.device import Asked, unseen
    from memplan.smoke.devices import named

    asked = Asked(steps=steps, budget=budget, advance=advance or unseen)
    return named(device, scaled=scaled).compare(workload, target, asked)


def pieces(steps: int, *, scaled: bool = False) -> int:
    """How often ``real`` calls ``advance``: the steps, and two that are watched allocation by allocation."""
    return (steps + 2) * (2 if scaled else 1)
