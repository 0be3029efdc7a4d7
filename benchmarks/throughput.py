"""How well the cost model ranks runs whose speed other people published (``throughput.yaml``).

Each row is read as a config of memplan's own. Compared are ratios within a table, that is of one model on one
kind of GPU: every pair of rows whose published speeds differ by more than one percent, which is about what
two runs of the same thing differ by. ``time`` is the published time per token over the modelled one: how
far the model is from real seconds, which it does not promise.

    python benchmarks/throughput.py [TABLE]...
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.tables import Table as Lines
from benchmarks.tables import aligned
from memplan import profiles
from memplan.domain.workload import Workload
from memplan.levers.cost import token_seconds
from memplan.read import read

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "benchmarks" / "throughput.yaml"
RUNS = ROOT / "tests" / "truth" / "rows"

MEASURES = ("tokens", "samples", "step")
"""Per second and GPU, or the seconds of an optimizer step."""

ALIKE = 0.01
"""Speeds that differ by less are not ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A published run: seconds per token as measured and as modelled."""

    workload: Workload
    measured: float
    modelled: float

    @property
    def label(self) -> str:
        """What differs between rows of a table."""
        what, batch = self.workload, self.workload.batch
        kind = what.adapter.kind if what.adapter else "full"
        parts = [
            f"{batch.micro}×{what.sequence.length}×{batch.accumulation}",
            f"{what.quantization.kind} {kind}" if what.quantization else kind,
            f"checkpointing {what.checkpointing.name}",
            str(what.attention),
            str(what.precision.autocast or what.compute),
            what.optimizer.name,
        ]
        return ", ".join(
            [*parts, *([f"{what.world.data_parallel} GPUs"] if what.world.data_parallel > 1 else [])]
        )


@dataclass(frozen=True, kw_only=True)
class Published:
    """One table of the file."""

    name: str
    source: Mapping[str, Any]
    runs: tuple[Run, ...]

    @cached_property
    def pairs(self) -> tuple[tuple[float, float], ...]:
        """Measured and modelled ratio of the times of two runs, as logarithms, the slower over the faster."""
        found = []
        for one, other in combinations(self.runs, 2):
            measured = math.log(one.measured / other.measured)
            if abs(measured) > ALIKE:
                modelled = math.log(one.modelled / other.modelled)
                found.append((abs(measured), math.copysign(1.0, measured) * modelled))
        return tuple(found)


def load(path: Path = FILE, names: Collection[str] = ()) -> tuple[Published, ...]:
    """The tables of a file, or those named, each run read and modelled."""
    import yaml

    tables = yaml.safe_load(path.read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        chosen = (table for table in tables if not names or table["name"] in names)
        return tuple(_table(table, Path(folder) / "memplan.yaml") for table in chosen)


def ordered(tables: Iterable[Published]) -> float:
    """The share of pairs that the model orders as measured; equal times count as half."""
    pairs = [modelled for table in tables for _, modelled in table.pairs]
    return sum(1.0 if modelled > 0 else 0.5 if modelled == 0 else 0.0 for modelled in pairs) / len(pairs)


def error(tables: Iterable[Published]) -> float:
    """The median factor by which the modelled ratio of two runs differs from the measured one, less one."""
    wrong = [abs(measured - modelled) for table in tables for measured, modelled in table.pairs]
    return math.exp(statistics.median(wrong)) - 1


def _table(table: Mapping[str, Any], path: Path) -> Published:
    runs = tuple(_run(table, row, path) for row in table["rows"])
    return Published(name=table["name"], source=table["source"], runs=runs)


def _run(table: Mapping[str, Any], row: Mapping[str, Any], path: Path) -> Run:
    import yaml

    base = table.get("config", {})
    if "run" in row:
        base = yaml.safe_load((RUNS / f"{row['run']}.yaml").read_text(encoding="utf-8"))
    own = {key: value for key, value in row.items() if key not in (*MEASURES, "run")}
    config = {**base, "memplan": 1}
    for key, value in own.items():
        old = config.get(key)
        config[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    workload = read(path).workload
    modelled = token_seconds(workload, profiles.target(table["gpu"]))
    return Run(workload=workload, measured=_per_token(row, workload), modelled=modelled)


def _per_token(row: Mapping[str, Any], workload: Workload) -> float:
    if "tokens" in row:
        return 1 / float(row["tokens"])
    if "samples" in row:
        return 1 / float(row["samples"]) / workload.sequence.length
    sequences = workload.batch.micro * workload.batch.accumulation
    return float(row["step"]) / sequences / workload.sequence.length


def _rows(table: Published) -> Lines:
    first = table.runs[0]
    lines = [["run", "measured", "modelled", "time"]]
    for run in table.runs:
        ratios = run.measured / first.measured, run.modelled / first.modelled
        lines.append([run.label, *(f"{ratio:.3f}" for ratio in ratios), f"{run.measured / run.modelled:.2f}"])
    return lines


def main(names: list[str]) -> int:
    """Print every table, or those named, and what holds for all."""
    tables = list(load(names=names))
    summary: Lines = [["table", "runs", "pairs", "ordered rightly", "ratio off by"]]
    for table in tables:
        where = table.source.get("repo") or table.source.get("package")
        print(f"{table.name}: time per token relative to the first run ({where})\n{aligned(_rows(table))}")
        summary.append(_summary(table.name, [table]))
    print(aligned([*summary, _summary("all", tables)]))
    return 0


def _summary(name: str, tables: list[Published]) -> list[str]:
    runs, pairs = sum(len(table.runs) for table in tables), sum(len(table.pairs) for table in tables)
    return [name, str(runs), str(pairs), f"{ordered(tables):.1%}", f"{error(tables):.1%}"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
