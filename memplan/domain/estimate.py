"""The answer: where every byte goes, when the peak is, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from memplan.domain.bytes import NOTHING, Bytes
from memplan.domain.out_of_memory import OutOfMemory
from memplan.domain.target import Target
from memplan.domain.trace import Phase
from memplan.domain.workload import Workload


class Basis(StrEnum):
    """How a number is known."""

    EXACT = "exact"
    MEASURED = "measured"
    MODELLED = "modelled"
    DECLARED = "declared"
    ASSUMED = "assumed"


class Verdict(StrEnum):
    """Whether the workload fits its target; undecided when the bounds straddle the limit."""

    FITS = "fits"
    DOES_NOT_FIT = "does_not_fit"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Tensors of one kind within a component: ``32 × (1, 2048, 14336) bf16``-like lines for ``explain``."""

    tag: str
    count: int
    bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A named share of memory, how its size is known, and the tensors it is made of."""

    name: str
    bytes: Bytes
    basis: Basis
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Something that is not modelled: how far below and above the point estimate it may push the truth.

    ``unbounded`` says that nothing is known about how far above; ``cached`` that what is above is memory
    PyTorch gives back when it runs short.
    """

    reason: str
    low: Bytes = NOTHING
    high: Bytes = NOTHING
    unbounded: bool = False
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """GPU memory of one process.

    ``peak_allocated`` and ``peak_reserved`` are PyTorch's ``max_memory_allocated`` and
    ``max_memory_reserved``; ``process`` adds the CUDA context, as the driver counts it.
    ``components`` are alive at the allocated peak and sum to it. ``low`` and ``high`` bound ``process``.
    ``returned`` counts how often cached memory has to be given back for the run to fit its target;
    ``failure`` is the allocation it dies of there.
    """

    peak_allocated: Bytes
    peak_reserved: Bytes
    context: Bytes
    process: Bytes
    low: Bytes
    high: Bytes
    peak_phase: Phase
    phases: tuple[tuple[Phase, Bytes], ...]
    components: tuple[Component, ...]
    gaps: tuple[Gap, ...] = ()
    returned: int = 0
    failure: OutOfMemory | None = None

    def stays_within(self, limit: int) -> bool:
        """Whether even the upper bound does; never when there is none, or when the run dies."""
        bounded = not any(gap.unbounded for gap in self.gaps)
        return self.failure is None and bounded and self.high <= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """Host RAM of the run's processes on one machine, at its peak and in every phase.

    ``low`` and ``high`` bound ``peak``. ``mapped`` are files in the page cache, which come on top but which
    the kernel takes back when memory runs short.
    """

    peak: Bytes
    components: tuple[Component, ...]
    phases: tuple[tuple[str, Bytes], ...] = ()
    peak_phase: str = "load"
    mapped: Bytes = NOTHING
    low: Bytes = NOTHING
    high: Bytes = NOTHING

    def verdict(self, ram: int) -> Verdict:
        """Whether it fits so much RAM."""
        if self.high <= ram:
            return Verdict.FITS
        return Verdict.DOES_NOT_FIT if self.low > ram else Verdict.UNDECIDED

    def largest(self) -> Component:
        """The largest of its shares at the peak."""
        return max(self.components, key=lambda part: part.bytes)

    def shortage(self, ram: Bytes) -> str:
        """Why so much RAM is not enough for sure, in words."""
        needs = f"{self.peak.rounded()}, at most {self.high.rounded()}"
        return f"host RAM of {ram.rounded()} is not enough: phase {self.peak_phase} needs {needs}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Memory of one workload on one target. ``disk`` is the sum of ``disk_parts``."""

    workload: Workload
    target: Target | None
    device: DeviceMemory
    host: HostMemory
    disk: Bytes
    verdict: Verdict | None
    headroom: Bytes
    disk_parts: tuple[Component, ...] = ()

    @property
    def on_host(self) -> bool:
        """Whether the run takes host memory only, so that this is what is told of it and judged."""
        return self.workload.on_host

    @property
    def needed(self) -> Bytes:
        """What the whole process takes of the memory it runs in."""
        return self.host.peak if self.on_host else self.device.process

    @property
    def least(self) -> Bytes:
        """The lower bound of ``needed``."""
        return self.host.low if self.on_host else self.device.low

    @property
    def most(self) -> Bytes:
        """The upper bound of ``needed``."""
        return self.host.high if self.on_host else self.device.high

    @property
    def shares(self) -> tuple[Component, ...]:
        """What is alive at the peak of the memory it runs in."""
        return self.host.components if self.on_host else self.device.components

    def component(self, name: str) -> Bytes:
        """Bytes of a component at the GPU's peak, or at the host's; zero when it is not there."""
        parts = (*self.device.components, *self.host.components)
        return next((part.bytes for part in parts if part.name == name), Bytes(0))
