"""The most of everything that was seen, and when."""

from __future__ import annotations

from collections.abc import Mapping

from memplan.domain.bytes import Bytes
from memplan.domain.watched import GpuUse, Moment, Peak
from memplan.smoke.watch.resident import Resident

MOST_PHASES = 100
"""A command that tells more names than this does not mean phases."""


class Peaks:
    """Takes looks one after the other and keeps the highest."""

    def __init__(self) -> None:
        self.looks = 0
        self.rss = Peak()
        self.held = Peak()
        self.shared_once = True
        self.first_on_gpu: float | None = None
        self._gpus: dict[int, tuple[Peak, bool]] = {}
        self._phases: dict[str, tuple[int, int]] = {}

    def take(
        self, seconds: float, host: Resident, gpus: Mapping[int, tuple[int, bool]], phase: str | None
    ) -> Moment:
        """One look: host memory, bytes of every GPU in use (and whether they are surely those), the phase."""
        self.looks += 1
        self.rss = _higher(self.rss, host.rss, seconds, phase)
        if host.highest > self.rss.bytes:
            # It was higher between two looks: since the last one, or this would have been seen then. What was
            # before the first look may have been at any time.
            since = self.looks > 1
            self.rss = Peak(
                bytes=Bytes(host.highest), seconds=seconds if since else None, phase=phase if since else None
            )
        if host.held is not None:
            self.held = _higher(self.held, host.held, seconds, phase)
            self.shared_once = self.shared_once and host.shared_once
        for index, (amount, attributed) in gpus.items():
            before, sure = self._gpus.get(index, (Peak(), True))
            self._gpus[index] = (_higher(before, amount, seconds, phase), sure and attributed)
        if gpus and self.first_on_gpu is None:
            self.first_on_gpu = seconds
        fullest = max((amount for amount, _ in gpus.values()), default=0)
        self._in_phase(phase, fullest, host.held or 0)
        held = tuple((index, Bytes(amount)) for index, (amount, _) in sorted(gpus.items()))
        return Moment(seconds=seconds, gpus=held, rss=Bytes(host.rss), phase=phase)

    def remember(self, resident: int) -> None:
        """The most that one process had resident, told by the kernel after its end."""
        if resident > self.rss.bytes:
            self.rss = Peak(bytes=Bytes(resident))

    def gpus(self, names: Mapping[int, str]) -> tuple[GpuUse, ...]:
        """Every GPU that was used."""
        return tuple(
            GpuUse(index=index, name=names.get(index, ""), peak=peak, attributed=attributed)
            for index, (peak, attributed) in sorted(self._gpus.items())
        )

    def phases(self) -> tuple[tuple[str, Bytes, Bytes], ...]:
        """The peaks of the fullest GPU and of held RAM by phase, in the order in which they were told."""
        return tuple((name, Bytes(gpu), Bytes(host)) for name, (gpu, host) in self._phases.items())

    def _in_phase(self, phase: str | None, gpu: int, host: int) -> None:
        if phase is None or (phase not in self._phases and len(self._phases) == MOST_PHASES):
            return
        before = self._phases.get(phase, (0, 0))
        self._phases[phase] = (max(before[0], gpu), max(before[1], host))


def _higher(peak: Peak, amount: int, seconds: float, phase: str | None) -> Peak:
    return peak if amount <= peak.bytes else Peak(bytes=Bytes(amount), seconds=seconds, phase=phase)
