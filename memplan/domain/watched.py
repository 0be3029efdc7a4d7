"""What a command took of GPU and host memory while it was watched, beside what was predicted for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import NOTHING, Bytes
from memplan.domain.estimate import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most that was seen, how many seconds after the start, and in which phase if the command told it.

    ``seconds`` is None for a peak that the kernel remembers without its time.
    """

    bytes: Bytes = NOTHING
    seconds: float | None = None
    phase: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """The most that all processes together held of one GPU, as the driver counts it.

    ``attributed`` says that the driver named the processes. Otherwise (in a container it names those of the
    host) it is what the whole GPU holds beyond what it held at the start.
    """

    index: int
    name: str
    peak: Peak
    attributed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a command ended.

    ``code`` is as a shell gives it (128 and the signal's number after a signal), None if it is not known.
    ``outlived`` are the processes that went on after the command; ``left`` says that they still do.
    ``starved`` counts the processes of the whole machine that the kernel killed meanwhile for want of memory.
    """

    code: int | None = None
    signal: str | None = None
    outlived: tuple[int, ...] = ()
    left: bool = False
    starved: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One look: bytes held on every GPU in use and in RAM, ``seconds`` after the start."""

    seconds: float
    gpus: tuple[tuple[int, Bytes], ...]
    rss: Bytes
    phase: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A command and all its descendants, from its start (or from when it was found by ``pid``) to its end.

    ``rss`` is resident memory with mapped files. ``held`` is what the kernel cannot take back (anonymous and
    shared memory), and counts pages that processes share once, if ``shared_once``. ``phases`` are the peaks
    (of the fullest GPU, of ``held``) in the phases that the command told.
    """

    command: tuple[str, ...]
    pid: int
    seconds: float
    interval: float
    looks: int
    gpus: tuple[GpuUse, ...]
    rss: Peak
    held: Peak
    shared_once: bool
    phases: tuple[tuple[str, Bytes, Bytes], ...]
    first_on_gpu: float | None
    ending: Ending
    notes: tuple[str, ...] = ()

    @property
    def fullest(self) -> GpuUse | None:
        """The GPU of which most was held: what a prediction, which is for one GPU, is compared with."""
        return max(self.gpus, key=lambda gpu: gpu.peak.bytes, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What was predicted of one kind of memory; ``high`` is None where nothing bounds it."""

    predicted: Bytes
    low: Bytes
    high: Bytes | None

    def exceeded(self, seen: int) -> bool:
        """Whether more was seen than can be."""
        return self.high is not None and seen > self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What an estimate says of one GPU's ``process`` and of the ``host``; None where it says nothing.

    ``source`` is the config or plan it was made for, ``gpu`` its target, ``limit`` what may be used there;
    ``notes`` say what the command has to be for this to be its prediction.
    """

    source: str
    gpu: str | None
    limit: Bytes | None
    process: Bound | None
    host: Bound | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, estimate: Estimate, source: str, *, margin: int = 0, notes: tuple[str, ...] = ()) -> Self:
        """The part of an estimate that can be seen from outside of a process.

        Without a target nothing is said of the GPU, since the CUDA context is not counted then; nothing is
        either of a run that takes host memory only.
        """
        device, host, target = estimate.device, estimate.host, estimate.target
        unbounded = any(gap.unbounded for gap in device.gaps)
        known = isinstance(estimate.workload.model, Architecture) or estimate.on_host
        if estimate.on_host:
            target = None
        return cls(
            source=source,
            gpu=target.name if target else None,
            limit=Bytes(target.limit - margin) if target else None,
            process=Bound(predicted=device.process, low=device.low, high=None if unbounded else device.high)
            if target
            else None,
            host=Bound(predicted=host.peak, low=host.low, high=host.high) if known else None,
            notes=notes,
        )


def within(watched: Watched, prediction: Prediction) -> bool | None:
    """Whether no peak was above its upper bound; None if nothing can be compared.

    Predictions are for runs on a GPU: of a run without one neither side is compared.
    """
    compared = list(_compared(watched, prediction))
    return not any(bound.exceeded(seen) for bound, seen in compared) if compared else None


def _compared(watched: Watched, prediction: Prediction) -> Iterator[tuple[Bound, Bytes]]:
    fullest = watched.fullest
    if fullest is None:
        return
    if prediction.process is not None and prediction.process.high is not None:
        yield prediction.process, fullest.peak.bytes
    if prediction.host is not None:
        yield prediction.host, watched.held.bytes
