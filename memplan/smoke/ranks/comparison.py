"""Prediction against what every rank measured of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psutil

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.domain.framework import Framework
from memplan.domain.ranks import Holdings, Rank, RankedRun
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from memplan.simulator.kernels import HOST
from memplan.smoke.ranks.job import Job
from memplan.smoke.ranks.launch import launch
from memplan.smoke.ranks.predicted import holdings


def compare(
    workload: Workload,
    framework: Framework,
    steps: int,
    patience: float,
    ended: Callable[[int], None] | None,
) -> RankedRun:
    """Simulate and run a workload under the same releases, rank by rank.

    Raises:
        InputError: they would fill this machine's memory.
        RunError: a rank failed, or it took too long.
    """
    workload = replace(workload, framework=framework)
    trace = trace_of(workload, HOST)
    predicted = tuple(holdings(workload, trace))
    world = workload.world.data_parallel
    _check_memory(workload, predicted)
    measured = launch(Job(workload=workload, steps=steps, world=world, patience=patience), ended)
    return RankedRun(
        device="cpu",
        sharding=workload.world.sharding,
        ranks=tuple(
            Rank(number=number, predicted=said, measured=seen)
            for number, (said, seen) in enumerate(zip(predicted, measured, strict=True))
        ),
        notes=tuple(_notes(workload, steps)),
    )


def _check_memory(workload: Workload, predicted: tuple[Holdings, ...]) -> None:
    """Refuse to fill the machine: every rank loads the whole model, beside Python and its libraries.

    Raises:
        InputError: more is needed than is free.
    """
    assert isinstance(workload.model, Architecture)
    whole = workload.model.parameters * workload.precision.params.itemsize
    # This process has loaded the same libraries.
    own = psutil.Process().memory_info().rss
    needed = sum(own + max(rank.peak_allocated, whole + rank.parameters) for rank in predicted)
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{len(predicted)} processes take {Bytes(needed).rounded()} and {Bytes(free).rounded()} of host"
            f" memory are free: {Bytes(needed - free).rounded()} are missing",
            hint="run fewer: --gpus 2; or a smaller model: --set",
        )


def _notes(workload: Workload, steps: int) -> Iterator[str]:
    releases = workload.framework
    yield (
        f"{steps} steps of {workload.world.data_parallel} processes on this machine's CPU, over gloo,"
        f" with torch {releases.torch} and transformers {releases.transformers}"
    )
    yield "gloo copies what it exchanges, NCCL does not: those copies are not counted"
