"""What a rank is told and what it tells, as files of a folder that only this user can read."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path

from memplan.domain.ranks import Holdings
from memplan.domain.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """``steps`` optimizer steps of a workload, by ``world`` ranks that wait ``patience`` seconds at most."""

    workload: Workload
    steps: int
    world: int
    patience: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a rank gave up: the kind of error, its message, and the innermost place it passed.

    ``memory`` says that it was memory it wanted, ``lost`` that others were no longer there to talk to.
    """

    kind: str
    message: str
    place: str
    memory: bool = False
    lost: bool = False


Outcome = Holdings | Failure


class Folder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def meeting(self) -> Path:
        """The file through which ranks find each other."""
        return self.path / "meeting"

    def log(self, rank: int) -> Path:
        """What a rank wrote to its terminal."""
        return self.path / f"rank{rank}.log"

    def order(self, job: Job) -> None:
        """Leave the job for the ranks."""
        _write(self.path / "job", job)

    def job(self) -> Job:
        """What is to be done."""
        found = pickle.loads((self.path / "job").read_bytes())
        assert isinstance(found, Job)
        return found

    def tell(self, rank: int, outcome: Outcome) -> None:
        """Leave what came of it."""
        _write(self._outcome(rank), outcome)

    def told(self, rank: int) -> Outcome | None:
        """What a rank left; None if it left nothing."""
        try:
            found = pickle.loads(self._outcome(rank).read_bytes())
        except FileNotFoundError:
            return None
        assert isinstance(found, Holdings | Failure)
        return found

    def when(self, rank: int) -> int:
        """When it did, in nanoseconds."""
        return self._outcome(rank).stat().st_mtime_ns

    def _outcome(self, rank: int) -> Path:
        return self.path / f"rank{rank}"


def _write(path: Path, what: object) -> None:
    """All of it or nothing, for whoever reads at the same time."""
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(pickle.dumps(what))
    os.replace(unfinished, path)
