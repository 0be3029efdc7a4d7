"""Runs of the real libraries, to hold the simulator against: the only package that knows torch.

``fake`` trains transformers' and PEFT's own classes on tensors without bytes and compares what they
allocate with what was predicted; ``on_cpu`` and ``on_cuda`` run them for real. Tensors that somebody declared
are made as declared on each of the three. torch and its friends are imported when these are called, and not
before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError, MemplanError
from memplan.domain.measurement import Comparison
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.smoke.device import Asked
from memplan.smoke.environment import prepare

__all__ = ["best", "fake", "is_declared", "on_cpu", "on_cuda"]


def fake(workload: Workload, target: Target | None = None) -> Comparison:
    """Compare the prediction for a workload with the trace of the real classes on fake tensors.

    Both are for a GPU like ``target``, or one of compute capability 8.0, and for the installed libraries.

    Raises:
        InputError: the libraries are not installed, or the workload asks for something that is not traced.
        FieldError: the installed transformers does not know the model.
    """
    from memplan.smoke.libraries import require

    if is_declared(workload):
        require(workload)
        from memplan.smoke.declared import fake as without_bytes

        return without_bytes.compare(workload, target)
    _only_on_cpu(workload)
    from memplan.smoke.limits import refuse

    refuse(workload)
    framework = require(workload)
    from memplan.smoke.compare import compare

    return compare(workload, target, framework)


def on_cpu(
    workload: Workload, asked: Asked, *, scaled: bool = False, record: Path | None = None
) -> Comparison:
    """Run a workload on this machine's processor, and compare what it takes with the prediction for it.

    Args:
        workload: what to run.
        asked: ``budget`` is what may be allocated.
        scaled: run a deep model at two smaller depths, and scale up what was seen.
        record: where to append what was measured; nothing is of what ran in small.

    Raises:
        InputError: the libraries are not installed, or the run cannot be made here.
        FieldError: the workload is not simulated, or the installed transformers does not know the model, or
            the record is none.
        FileAccessError: the record cannot be read.
    """
    from memplan.smoke.libraries import require

    framework = require(workload)
    if scaled and isinstance(workload.model, DeclaredModel):
        raise InputError("a model that is declared has no layers to leave out", hint="leave out --scaled")
    kept = None if scaled else record
    _check(kept)
    prepare()
    if isinstance(workload.model, DeclaredModel) and workload.model.mechanism is not None:
        from memplan.smoke import systems

        workload = workload.changed("device", "cpu")
        found = systems.on_cpu(workload, asked)
        kept = None if systems.in_small(workload) else kept
    elif is_declared(workload):
        from memplan.smoke.declared import processor

        found = processor.compare(workload, asked)
    else:
        from memplan.smoke.cpu import Cpu

        found = Cpu(scaled=scaled).compare(workload, None, asked)
    return _recorded(kept, replace(workload, framework=framework), _with_overhead(found), "cpu")


def _with_overhead(found: Comparison) -> Comparison:
    """With what was resident before there were tensors: what is predicted lies on top of it."""
    predicted = found.predicted
    if predicted.rss is None:
        return found
    before = Bytes(predicted.rss - predicted.peak_allocated)
    return replace(found, measured=replace(found.measured, overhead=before))


def is_declared(workload: Workload) -> bool:
    """Whether there is nothing to run: tensors that somebody declared, and no word of what they are for."""
    return isinstance(workload.model, DeclaredModel) and workload.model.mechanism is None


def _only_on_cpu(workload: Workload) -> None:
    """Refuse mechanisms, which are run for real and nowhere else."""
    if isinstance(workload.model, DeclaredModel) and workload.model.mechanism is not None:
        raise InputError(
            f"the mechanism {workload.model.mechanism} is run on the processor only", hint="use --device cpu"
        )


def best(workload: Workload) -> str:
    """The device for a workload of which nobody said on which to run it.

    ``cuda`` with a GPU and a PyTorch made for one. Without, ``fake`` for the models that are known, since a
    model meant for a GPU is seldom one for a processor; ``cpu`` for declared tensors and for mechanisms, and
    always for runs of several processes and for what is meant for one.
    """
    mechanism = isinstance(workload.model, DeclaredModel) and workload.model.mechanism is not None
    if mechanism or workload.world.data_parallel > 1:
        return "cpu"
    if _has_gpu():
        return "cuda"
    return "cpu" if is_declared(workload) else "fake"


def _has_gpu() -> bool:
    from memplan import probe
    from memplan.smoke.libraries import for_gpus

    try:
        return for_gpus() and bool(probe.devices())
    except InputError:
        return False


def on_cuda(
    workload: Workload,
    target: Target | None,
    asked: Asked,
    snapshot: Path | None = None,
    *,
    record: Path | None = None,
) -> Comparison:
    """Run a workload on the GPU that PyTorch takes first, and compare it with the prediction.

    Args:
        target: the card that the GPU stands for; None for itself.
        asked: ``budget`` is what PyTorch may reserve, if less than the target leaves it.
        snapshot: where to write the history of all allocations, for PyTorch's viewer.
        record: where to append what was measured.

    Raises:
        InputError: the libraries or a GPU are missing, the GPU cannot stand for the target, or the workload
            asks for something that is not run.
        FieldError: the installed transformers does not know the model, or the record is none.
        FileAccessError: the snapshot cannot be written, or the record not be read.
    """
    from memplan.smoke.gpu.settings import prepare
    from memplan.smoke.libraries import require

    _only_on_cpu(workload)
    framework = require(workload)
    _check(record)
    # PyTorch reads them when it starts, so nothing above may have loaded it.
    replaced = prepare(workload.allocator)
    from memplan.smoke.gpu.device import CudaDevice
    from memplan.smoke.gpu.driver import Cuda

    with Cuda() as driver:
        found = CudaDevice(driver, snapshot).compare(workload, target, asked)
    found = replace(found, notes=(*found.notes, *replaced))
    if is_declared(workload):
        # A context in which nothing was computed is none that a run can be planned with.
        found = replace(found, measured=replace(found.measured, context=None))
    return _recorded(record, replace(workload, framework=framework), found, driver.name)


def _check(record: Path | None) -> None:
    """Refuse a broken record before anything runs."""
    if record is not None:
        from memplan.probe.record import entries

        entries(record)


def _recorded(record: Path | None, workload: Workload, found: Comparison, device: str) -> Comparison:
    """Append a run that went through; should that fail now, a note says so: the figures are worth more."""
    if record is None or found.shortage is not None:
        return found
    from memplan import probe
    from memplan.smoke.record import append, entry_of

    try:
        append(record, entry_of(workload, found, device, None if device == "cpu" else probe.driver()))
    except MemplanError as error:
        return replace(found, notes=(*found.notes, f"not recorded: {error.message}"))
    return found
