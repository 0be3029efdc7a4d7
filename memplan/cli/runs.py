"""How ``memplan smoke`` runs a job: on which device, with which options, within which budget."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from memplan.cli.job import Job
    from memplan.domain.bytes import Bytes
    from memplan.domain.measurement import Comparison
    from memplan.domain.target import Target


class Device(StrEnum):
    """What to run on: ``fake`` is tensors without bytes, ``auto`` what ``memplan.smoke.best`` says."""

    FAKE = "fake"
    CPU = "cpu"
    CUDA = "cuda"
    AUTO = "auto"


def kind_of(job: Job, device: Device) -> Device:
    """What it runs on, if nobody said."""
    from memplan import smoke

    return Device(smoke.best(job.workload)) if device is Device.AUTO else device


def check(
    kind: Device,
    job: Job,
    *,
    cap: str | None,
    scaled: bool,
    snapshot: Path | None,
    record: Path | None,
    save: bool,
) -> None:
    """Refuse options that are for another device, or another model.

    Raises:
        BadParameter: an option makes no sense with what is run.
    """
    from memplan.cli import ranks

    if kind is Device.FAKE and (cap is not None or scaled or record is not None):
        raise typer.BadParameter("--cap, --scaled and --record are for real runs: --device cpu")
    if kind is not Device.CPU and scaled:
        raise typer.BadParameter("--scaled is for --device cpu")
    if kind is not Device.CUDA and snapshot is not None:
        raise typer.BadParameter(f"--snapshot is for --device cuda, and this runs on --device {kind}")
    if save and (kind is Device.FAKE or scaled or cap is not None or ranks.several(job)):
        raise typer.BadParameter("--save is for whole runs of one process, on --device cpu or cuda")
    if ranks.several(job) and (cap is not None or scaled or record is not None):
        raise typer.BadParameter("--cap and --scaled are for one process only, as is --record")


def found(
    job: Job,
    kind: Device,
    steps: int,
    cap: str | None,
    snapshot: Path | None,
    *,
    scaled: bool,
    record: Path | None,
    save: bool,
) -> Comparison:
    """Run it, and compare.

    Raises:
        MemplanError: it cannot be run there.
    """
    from memplan import smoke
    from memplan.cli.progress import progress
    from memplan.smoke.device import Asked, unheeded
    from memplan.smoke.saving import Saver

    if kind is Device.FAKE:
        return smoke.fake(job.workload, job.target)
    on_gpu = kind is Device.CUDA
    asked = Asked(steps=steps, budget=_budget(cap, None if scaled or on_gpu else job.target))
    saver = Saver(job.workload) if save else None
    with progress(f"running on the {kind}", _rounds(job, kind, steps, scaled=scaled)) as advance:
        asked = replace(asked, advance=advance, done=saver or unheeded)
        if on_gpu:
            seen = smoke.on_cuda(job.workload, job.target, asked, snapshot, record=record)
        else:
            seen = smoke.on_cpu(job.workload, asked, scaled=scaled, record=record)
    return seen if saver is None else saver.beside(seen)


def kept(record: Path | None) -> Path | None:
    """Where a measured run is appended to, if anywhere.

    Raises:
        MemplanError: the file that was asked for is no record, or cannot be written.
    """
    from memplan.probe.record import usual_path

    if record is None:
        return usual_path()
    from memplan.smoke.record import ready

    ready(record)
    return record


_WATCHED = 2
"""Steps that a CPU is given beside those asked for, and a GPU at least; how often tensors alone are made."""


def _rounds(job: Job, kind: Device, steps: int, *, scaled: bool) -> int:
    """Steps in all, of both depths of a model that is scaled down."""
    from memplan import smoke

    if smoke.is_declared(job.workload):
        return _WATCHED
    if kind is Device.CUDA:
        return max(steps, _WATCHED)
    return (steps + _WATCHED) * (2 if scaled else 1)


def _budget(cap: str | None, target: Target | None) -> Bytes | None:
    """What may be allocated: as asked, else what a GPU leaves beside its context."""
    from memplan.cli.target import amount
    from memplan.domain.bytes import Bytes

    if cap is not None:
        return amount(cap, "--cap")
    return None if target is None else Bytes(target.limit - target.context)
