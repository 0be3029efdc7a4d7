"""What a command runs: a config as it is, or the run that a plan file makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading
    from memplan.domain.target import Target
    from memplan.domain.workload import Workload

_HEAD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A config that was read, the workload to run, and the GPU it is meant for if one is named."""

    reading: Reading
    workload: Workload
    target: Target | None


def job(
    path: str,
    gpu: str | None,
    *,
    overrides: Sequence[str],
    model: str | None,
    beside: Sequence[str],
    dialect: str | None,
    online: bool,
) -> Job:
    """Read a config, or a plan file with the config it is for.

    Raises:
        InputError: a plan file comes with options that it settles itself.
        MemplanError: what is to be read is not well-formed, or not what the plan was made from.
    """
    from memplan.cli import target
    from memplan.read import read

    if _is_plan(Path(path)):
        return _planned(Path(path), gpu, settled=(overrides, model, beside, dialect, online))
    reading = read(path, dialect=dialect, overrides=overrides, model=model, beside=beside, online=online)
    return Job(reading=reading, workload=reading.workload, target=target.of_reading(reading, gpu))


def _is_plan(path: Path) -> bool:
    """Whether a file says of itself, near its top, that it is a plan."""
    from memplan.apply.plan_file import SCHEMA

    try:
        with path.open("rb") as file:
            return SCHEMA.encode() in file.read(_HEAD)
    except OSError:
        return False


def _planned(path: Path, gpu: str | None, settled: tuple[object, ...]) -> Job:
    from memplan import profiles
    from memplan.apply import plan_file as files
    from memplan.cli import target
    from memplan.domain.errors import InputError
    from memplan.read import read

    if any(settled):
        raise InputError(
            f"{path} is a plan: it says itself which config it is for, and how that is read",
            hint="leave out --set, --model, --with, --dialect and --online",
        )
    saved = files.load(path)
    reading = read(
        saved.source, dialect=saved.dialect, overrides=saved.overrides, model=saved.model, beside=saved.beside
    )
    own = profiles.target(saved.gpu, ram=saved.memory)
    plan = saved.plan(reading, own)
    return Job(
        reading=reading,
        workload=plan.after.workload,
        target=own if gpu is None else target.chosen(gpu, None),
    )
