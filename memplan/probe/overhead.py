"""Host memory that processes take beside their tensors, from runs that were measured on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from memplan.domain.bytes import Bytes
from memplan.domain.overhead import Overhead
from memplan.probe.calibration import LAST
from memplan.probe.record import CPU, NONE, Entry

Build = tuple[str, str]
"""A release of torch with its local part, such as ``2.13.0+cpu``, and one of Python."""

Seen = tuple[str, Bytes, int]
"""The day of a run, its overhead, and how much more was resident than predicted on top of that."""


def python() -> str:
    """The release of this interpreter."""
    return ".".join(str(part) for part in sys.version_info[:3])


def installed_build() -> Build | None:
    """The installed build of PyTorch and this interpreter, asked without loading it."""
    try:
        return version("torch"), python()
    except PackageNotFoundError:
        return None


def on_cpu(runs: Iterable[Entry], build: Build | None) -> Overhead | None:
    """What the last processes took that ran on the processor, with torch and no library above it.

    Args:
        build: the installed one, whose runs count. None: nothing is installed here, and those of the last
            build that was run do.
    """
    alike = [run for run in runs if run.device == CPU and run.words["transformers"] == NONE]
    return _of(alike, build, on_gpu=False)


def on_gpu(
    runs: Iterable[Entry], name: str, driver: str | None, build: Build | None = None
) -> Overhead | None:
    """What the last processes took that ran on the GPU ``name`` under this driver, CUDA's part included."""
    alike = [run for run in runs if run.device == name and driver is not None and run.driver == driver]
    return _of(alike, build, on_gpu=True)


def _of(runs: Sequence[Entry], build: Build | None, *, on_gpu: bool) -> Overhead | None:
    known = [run for run in runs if _build(run) is not None and run.measured["overhead"]]
    wanted = _build(known[-1]) if known and build is None else build
    last = [*_seen(run for run in known if _build(run) == wanted)][-LAST:]
    if not last:
        return None
    return Overhead(
        runs=len(last),
        date=max(date for date, _, _ in last),
        least=Bytes(min(beside + min(more, 0) for _, beside, more in last)),
        usual=max(beside for _, beside, _ in last),
        most=Bytes(max(beside + max(more, 0) for _, beside, more in last)),
        on_gpu=on_gpu,
    )


def _build(run: Entry) -> Build | None:
    build, release = run.words.get("build"), run.words.get("python")
    return None if build is None or release is None else (build, release)


def _seen(runs: Iterable[Entry]) -> Iterator[Seen]:
    """Runs whose figures can be true: what was predicted too much is less than what was there before."""
    for run in runs:
        beside, resident, expected = (
            run.measured["overhead"],
            run.measured["resident"],
            run.predicted["resident"],
        )
        more = 0 if resident is None or expected is None else resident - expected
        if beside is not None and beside + more > 0:
            yield run.date, beside, more
