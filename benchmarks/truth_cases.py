"""The published measurements in ``tests/truth``: a config of memplan's own for each, and what was measured.

A suite is a folder: ``measured.yaml`` lists its rows with figures in bytes and their source, and every row
but those of single operators has a config of that name beside it, read like any user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from memplan import profiles
from memplan.dialects.reading import Reading
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.read import read

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "truth" / "rows"
MEASURED = "measured.yaml"
LEFT_OUT = "left_out.yaml"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One published row: its facts as ``measured.yaml`` lists them, and where they stand."""

    suite: str
    facts: Mapping[str, Any]
    folder: Path

    @property
    def id(self) -> str:
        """The row's name."""
        return str(self.facts["id"])

    @property
    def label(self) -> str:
        """What ran, for people."""
        return str(self.facts["run"])

    @property
    def card(self) -> str:
        """The GPU as the source names it, without its size and capability."""
        return str(self.facts["gpu"]).split(" (")[0]

    @property
    def measured(self) -> Mapping[str, int]:
        """Bytes by metric."""
        found: Mapping[str, int] = self.facts.get("measured", {})
        return found

    @property
    def outcome(self) -> str | None:
        """``ran`` or ``oom`` where that is what was published."""
        return self.facts.get("outcome")

    @property
    def context(self) -> int | None:
        """The CUDA context in bytes, where the source says what it was."""
        return self.facts.get("context")

    @property
    def operator(self) -> Mapping[str, Any] | None:
        """A single operator and its sizes, where no whole run was measured."""
        return self.facts.get("operator")

    @property
    def contradicts(self) -> str | None:
        """Why the releases it ran are in doubt, if they are."""
        return self.facts.get("contradicts")

    @property
    def trusted(self) -> bool:
        """Whether everything about a whole run was declared, and it ran on one GPU."""
        if self.operator is not None or self.contradicts is not None:
            return False
        return self.facts["confidence"] == "high" and self.workload.world.data_parallel == 1

    @property
    def quantized(self) -> bool:
        """Whether it is a run with quantized weights."""
        return self.operator is None and self.workload.quantization is not None

    @property
    def path(self) -> Path:
        """The row's config."""
        return self.folder / f"{self.id}.yaml"

    @cached_property
    def reading(self) -> Reading:
        """The config, read as ``memplan estimate`` reads it."""
        return read(self.path)

    @property
    def workload(self) -> Workload:
        """What the config says was run."""
        return self.reading.workload

    @property
    def gpu(self) -> str:
        """memplan's name of the GPU."""
        assert self.reading.gpu is not None, self.path
        return self.reading.gpu

    @property
    def target(self) -> Target:
        """The GPU as it is profiled."""
        return profiles.target(self.gpu)


def load(folder: Path = FOLDER) -> tuple[Case, ...]:
    """Every row of every suite, in the order of the lists."""
    return tuple(
        Case(suite=path.parent.name, facts=facts, folder=path.parent)
        for path in sorted(folder.glob(f"*/{MEASURED}"))
        for facts in _listed(path)
    )


def left_out(folder: Path = FOLDER) -> dict[str, str]:
    """Published rows that are not compared, and why."""
    return {name: reason for reason, names in _listed(folder / LEFT_OUT).items() for name in names}


def _listed(path: Path) -> Any:
    import yaml

    return yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
