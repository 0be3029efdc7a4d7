"""Host RAM of a run, phase by phase, for all its processes on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Basis, Component, HostMemory
from memplan.domain.overhead import Overhead
from memplan.domain.workload import Task, Workload
from memplan.estimate.host.batches import batches
from memplan.estimate.host.evaluation import evaluation
from memplan.estimate.host.libraries import libraries, workers
from memplan.estimate.host.loading import NAME, loading, mapped
from memplan.estimate.host.offload import offloaded
from memplan.estimate.host.saving import saving
from memplan.estimate.host.share import Share
from memplan.estimate.kept import PER_MACHINE, Kept


def host(workload: Workload, found: Kept, seen: Overhead | None = None) -> HostMemory:
    """The phase that takes most, with its shares; of tensors that somebody declared nothing is known.

    ``seen`` is what such processes took beside tensors, where that was measured.

    Counted is what the process cannot do without: anonymous, shared and pinned memory. ``mapped`` are files
    in the page cache, which the kernel takes back when memory runs short.
    """
    if not workload.simulated:
        nothing = Component(name=NAME, bytes=Bytes(0), basis=Basis.ASSUMED)
        return HostMemory(peak=Bytes(0), components=(nothing,))
    shape = workload.model if isinstance(workload.model, Architecture) else None
    # Beside a mechanism on a GPU the process has its libraries, and nothing else of any size.
    phases = {"load": tuple(libraries(seen))} if shape is None else _phases(workload, shape, found, seen)
    sums = {name: sum(share.bytes for share in shares) for name, shares in phases.items()}
    peak = max(sums, key=lambda name: sums[name])
    return HostMemory(
        peak=Bytes(sums[peak]),
        components=tuple(share.component() for share in phases[peak]),
        phases=tuple((name, Bytes(size)) for name, size in sums.items()),
        peak_phase=peak,
        mapped=Bytes(0 if shape is None else mapped(workload, shape)),
        low=Bytes(max(sum(share.low for share in shares) for shares in phases.values())),
        high=Bytes(max(sum(share.high for share in shares) for shares in phases.values())),
    )


def host_floor(workload: Workload, seen: Overhead | None = None) -> int:
    """Bytes below the upper bound of ``host``: what is known of a run without simulating it."""
    if not isinstance(workload.model, Architecture):
        return 0
    phases = [[*libraries(seen), *loading(workload, workload.model)]]
    if workload.task is Task.TRAIN:
        phases.append([*libraries(seen), *workers(workload.host.workers), *batches(workload)])
    processes = min(workload.world.data_parallel, PER_MACHINE)
    return processes * max(sum(share.high for share in shares) for shares in phases)


def _phases(
    workload: Workload, shape: Architecture, found: Kept, seen: Overhead | None
) -> Mapping[str, tuple[Share, ...]]:
    """The shares of all processes in each phase."""
    processes = min(workload.world.data_parallel, PER_MACHINE)
    base = [*libraries(seen)]
    phases: dict[str, list[Share]] = {"load": [*base, *loading(workload, shape)]}
    if workload.task is Task.GENERATE:
        phases["generate"] = base
    else:
        running = [*base, *workers(workload.host.workers), *batches(workload), *offloaded(workload, found)]
        phases["train"] = running
        if workload.evaluation is not None and workload.evaluation.kept:
            phases["evaluate"] = [*running, *evaluation(workload, shape)]
    shares = {name: [share.times(processes) for share in mine] for name, mine in phases.items()}
    if "train" in shares:
        shares["save"] = [*shares["train"], *saving(workload, found)]
    return {name: tuple(chain(found)) for name, found in shares.items()}
