"""Measured rows beside their estimates.

Errors are signed: an estimate above the measurement is positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks import truth_rows
from benchmarks.truth_rows import Row
from memplan.domain.estimate import DeviceMemory
from memplan.domain.trace import Phase, Trace
from memplan.estimate import estimate, trace_of
from memplan.simulator.allocator import Allocator

MIB = 2**20
ALLOCATED, RESERVED = "max_memory_allocated", "max_memory_reserved"

AFTER_LOAD = "after_load"

PHASES = {
    "forward_peak": (Phase.FORWARD, Phase.LOSS),
    "backward_peak": (Phase.BACKWARD,),
    "optimizer_step_peak": (Phase.OPTIMIZER,),
}
"""Phases as the fitcheck rows name them, and ours: their forward pass computes the loss as well."""

STAGES = (AFTER_LOAD, *PHASES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One metric of one row, in bytes."""

    metric: str
    measured: int
    estimated: int

    @property
    def error(self) -> float:
        """In percent of what was measured."""
        return 100 * (self.estimated / self.measured - 1)

    @property
    def excess(self) -> float:
        """In MiB."""
        return (self.estimated - self.measured) / MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A measured run and its estimate, metric by metric."""

    row: Row
    figures: tuple[Figure, ...]

    def figure(self, metric: str) -> Figure | None:
        """One metric; None where the row does not have it."""
        return next((figure for figure in self.figures if figure.metric == metric), None)

    @property
    def label(self) -> str:
        """What ran, for people: model, task, dtype, batch × sequence, attention, checkpointing."""
        row = self.row
        words = (
            str(row["model"]).rsplit("/", 1)[-1],
            row["task"],
            _precision(row),
            f"{row['micro_batch']}×{row['seq_len']}",
            str(truth_rows.KERNELS[row["attention"]]),
        )
        checkpointed = row["activation_checkpointing"].startswith("full")
        return ", ".join(words) + (", checkpointing" if checkpointed else "")

    @property
    def card(self) -> str:
        """The GPU's name without its size and capability."""
        return next(name for name in truth_rows.GPUS if self.row["gpu"].startswith(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Every row of the file: compared, compared on another stack, or left out with a reason."""

    covered: tuple[Comparison, ...]
    other_stacks: tuple[Comparison, ...]
    left_out: tuple[tuple[Row, str], ...]

    def figures(self, metric: str) -> list[Figure]:
        """One metric over the covered rows that have it."""
        return [figure for case in self.covered if (figure := case.figure(metric))]

    def summary(self) -> dict[str, tuple[float, float]]:
        """Median and worst absolute error of the covered rows in percent, by metric."""
        names = dict.fromkeys(figure.metric for case in self.covered for figure in case.figures)
        errors = {name: [abs(figure.error) for figure in self.figures(name)] for name in names}
        return {name: (median(found), max(found)) for name, found in errors.items()}


def _precision(row: Row) -> str:
    if row["quantization"] != "none":
        return f"nf4 + {row['compute_dtype'].split()[0]}"
    return str(row["param_dtype"]) + (" + autocast" if "torch.autocast" in row["compute_dtype"] else "")


def compare(row: Row) -> Comparison:
    """Estimate what a covered row measured."""
    workload, target = truth_rows.workload(row), truth_rows.target(row)
    figures = list(_figures(row, estimate(workload, target).device))
    for entry in row["measured"]:
        if entry["metric"] == "allocated" and entry.get("phase") == AFTER_LOAD:
            held = _loaded(trace_of(workload, target.compute_capability))
            figures.append(Figure(metric=AFTER_LOAD, measured=entry["bytes"], estimated=held))
    return Comparison(row=row, figures=tuple(figures))


def _loaded(trace: Trace) -> int:
    """Bytes that loading leaves on the GPU, as the allocator counts them."""
    allocator = Allocator()
    addresses: dict[int, int] = {}
    for event in trace.events[: trace.cycles[0]]:
        if event < 0:
            allocator.release(addresses.pop(~event))
        else:
            addresses[event] = allocator.allocate(trace.sizes[event])
    return allocator.allocated


def report(rows: Iterable[Row]) -> Report:
    """Compare every covered row, and say of every other one why it is not."""
    covered: list[Comparison] = []
    others: list[Comparison] = []
    without: list[tuple[Row, str]] = []
    for row in rows:
        reason = truth_rows.left_out(row)
        if reason is not None:
            without.append((row, reason))
        else:
            (covered if row["suite"] in truth_rows.SUITES else others).append(compare(row))
    return Report(covered=tuple(covered), other_stacks=tuple(others), left_out=tuple(without))


def _figures(row: Row, device: DeviceMemory) -> Iterator[Figure]:
    """The metrics of a row that the estimate has too."""
    phases = dict(device.phases)
    estimates = {ALLOCATED: device.peak_allocated, RESERVED: device.peak_reserved}
    for entry in row["measured"]:
        metric, phase, measured = entry["metric"], entry.get("phase"), entry["bytes"]
        if metric in estimates:
            yield Figure(metric=metric, measured=measured, estimated=estimates[metric])
        elif metric == "allocated" and phase in PHASES:
            highest = max(phases[name] for name in PHASES[phase])
            yield Figure(metric=phase, measured=measured, estimated=highest)
