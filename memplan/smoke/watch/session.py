"""Looks at a command's processes, host and GPU memory, until they are put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from memplan.domain.watched import Ending, Moment, Watched
from memplan.smoke.watch.graphics import GpuMeter
from memplan.smoke.watch.peaks import Peaks
from memplan.smoke.watch.phases import PhaseFile
from memplan.smoke.watch.processes import Processes
from memplan.smoke.watch.resident import HostMeter

Observer = Callable[[Moment], None]
"""Is told of every look."""

_KILLS = Path("/proc/vmstat")


class Session:
    """One watched command. ``interval`` is in seconds."""

    def __init__(
        self,
        processes: Processes,
        gpus: GpuMeter,
        phases: PhaseFile | None,
        interval: float,
        observer: Observer | None,
    ) -> None:
        self.processes = processes
        self.interval = interval
        self.peaks = Peaks()
        self._gpus = gpus
        self._phases = phases
        self._observer = observer
        self._host = HostMeter()
        self._kills = _killed_for_memory()
        self._wrong: str | None = None
        self._started = time.monotonic()
        self._seconds: float | None = None

    def look(self) -> None:
        """Take down what is held now; nothing that goes wrong with watching may end what is watched."""
        try:
            self._look()
        except Exception as error:
            self._wrong = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"

    def _look(self) -> None:
        alive = self.processes.alive()
        seconds = self._passed()
        phase = self._phase()
        gpus, host = self._gpus.read(process.pid for process in alive), self._host.read(alive)
        # A look during which the phase changed belongs to neither.
        moment = self.peaks.take(seconds, host, gpus, phase if self._phase() == phase else None)
        if self._observer is not None:
            self._observer(moment)

    def _passed(self) -> float:
        return time.monotonic() - self._started

    def _phase(self) -> str | None:
        return self._phases.current() if self._phases else None

    def stop(self) -> None:
        """The command has ended now; what is looked at from here on outlived it."""
        self._seconds = self._passed()

    def starved(self) -> int:
        """How many processes the kernel has killed for want of memory since the start."""
        return max(0, _killed_for_memory() - self._kills)

    def watched(self, command: tuple[str, ...], pid: int, ending: Ending, *notes: str) -> Watched:
        """Everything that was seen."""
        peaks = self.peaks
        return Watched(
            command=command,
            pid=pid,
            seconds=self._passed() if self._seconds is None else self._seconds,
            interval=self.interval,
            looks=peaks.looks,
            gpus=peaks.gpus(self._gpus.names),
            rss=peaks.rss,
            held=peaks.held,
            shared_once=peaks.shared_once,
            phases=peaks.phases(),
            first_on_gpu=peaks.first_on_gpu,
            ending=ending,
            notes=(*notes, *self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        if self._wrong is not None:
            yield f"not every look succeeded: {self._wrong}"
        if self._gpus.absent is not None:
            yield f"host memory only: {self._gpus.absent}"
        if any(not gpu.attributed for gpu in self.peaks.gpus(self._gpus.names)):
            since = "beyond what it held at the start" if self._gpus.fresh else "whoever holds it"
            yield (
                "the driver does not say what these processes hold, as in a container: GPU figures are what"
                f" the whole GPU holds, {since}"
            )
        if not self.peaks.shared_once:
            yield "the kernel does not say which pages processes share: each counts for every one of them"


def _killed_for_memory() -> int:
    """``oom_kill`` of /proc/vmstat: the machine's count since it started; 0 where the kernel keeps none."""
    try:
        text = _KILLS.read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)
