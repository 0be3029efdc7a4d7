"""Host memory that processes take beside their tensors, from runs that were measured on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from memplan.domain.bytes import Bytes
from memplan.domain.measurement import TOLERANCES
from memplan.domain.overhead import Overhead
from memplan.probe.calibration import LAST
from memplan.probe.record import CPU, NONE, Entry

_TOLERATED = TOLERANCES[CPU].rss

Build = tuple[str, str]
"""A release of torch with its local part, such as ``2.13.0+cpu``, and one of Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A run: its day, its overhead, its tensors, and how much ``more`` was resident than predicted."""

    date: str
    overhead: Bytes
    tensors: int
    more: int

    @property
    def growth(self) -> float:
        """``more`` as a share of the tensors, within what a run that went as predicted may show."""
        share = self.more / self.tensors if self.tensors > 0 else 0.0
        return max(-_TOLERATED, min(_TOLERATED, share))


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
    largest = max(last, key=lambda run: run.tensors)
    return Overhead(
        runs=len(last),
        date=max(run.date for run in last),
        least=Bytes(min(run.overhead + min(run.more, 0) for run in last)),
        usual=max(run.overhead for run in last),
        most=Bytes(max(run.overhead + max(run.more, 0) for run in last)),
        largest=Bytes(largest.tensors),
        growth=largest.growth,
        on_gpu=on_gpu,
    )


def _build(run: Entry) -> Build | None:
    build, release = run.words.get("build"), run.words.get("python")
    return None if build is None or release is None else (build, release)


def _seen(runs: Iterable[Entry]) -> Iterator[_Seen]:
    """Runs whose figures can be true: what was predicted too much is less than what was there before."""
    for run in runs:
        overhead, resident = run.measured["overhead"], run.measured["resident"]
        expected = run.predicted["resident"]
        if overhead is None:
            continue
        if resident is None or expected is None:
            more = tensors = 0
        else:
            more, tensors = resident - expected, max(0, expected - overhead)
        if overhead + more > 0:
            yield _Seen(date=run.date, overhead=overhead, tensors=tensors, more=more)
