"""Plans for every training config below a folder.

A config is any file that ``memplan.read`` recognises as a run: models' configs, parts of other configs'
jobs and manifests that only list configs are left out, and counted. A config that is alone in its folder
with a launcher's config or an adapter is planned as the job that the folder is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from memplan.domain.errors import (
    FileAccessError,
    ForeignFormatError,
    InputError,
    MemplanError,
    UnrecognisedError,
)
from memplan.domain.estimate import Verdict
from memplan.domain.plan import Plan
from memplan.fit import fit
from memplan.fit.outcome import FolderPlans, LeftOut, Outcome, Planned, Request
from memplan.fit.walk import companions, may_be_config
from memplan.fit.workers import each
from memplan.read import listing, locate, read, recognised

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

TRACEBACK_VARIABLE = "MEMPLAN_TRACEBACK"
"""Set when a defect in memplan is to stop everything, instead of being the outcome of one config."""


def is_one_job(path: Path) -> bool:
    """Whether a path is planned as one run: a file, a model directory, a manifest, a folder's one config."""
    try:
        if not path.is_dir():
            return True
    except (OSError, ValueError):
        return True
    try:
        return _left_out(locate(path)) in (None, LeftOut.MODEL, LeftOut.PART)
    except FileAccessError:
        return False
    except MemplanError as error:
        return not isinstance(error, InputError) or error.location is not None


def plan_folder(
    folder: Path,
    paths: Sequence[Path],
    request: Request,
    *,
    workers: int | None = None,
    advance: Callable[[], None] | None = None,
) -> FolderPlans:
    """Plan every config below a folder, on all cores.

    Args:
        folder: what was asked for.
        paths: the files below it that may be configs (``walk.files``).
        request: what is asked of each.
        workers: processes to use. Default: one a core, or none where they would cost more than they save.
        advance: called after each file.

    Raises:
        FileAccessError: there is no config below the folder.
    """
    results = each(examined, [(path, request) for path in paths], workers=workers, advance=advance)
    planned = tuple(result for result in results if isinstance(result, Planned))
    reasons = [result for result in results if isinstance(result, LeftOut)]
    if not planned:
        raise FileAccessError(f"{folder} holds no config of a run", expected="training configs, at any depth")
    return FolderPlans(
        folder=folder,
        planned=planned,
        left_out={reason: reasons.count(reason) for reason in LeftOut if reason in reasons},
    )


def examined(path: Path, request: Request) -> Planned | LeftOut:
    """One file: its plan, or why it is none of a run."""
    try:
        kind = _left_out(path)
        return kind if kind is not None else _planned(_job(path), request)
    except MemplanError as error:
        return Planned(path=path, outcome=Outcome.UNREADABLE, reason=_told(error))
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        said = f"this is a defect in memplan: {type(error).__name__}: {error}"
        return Planned(path=path, outcome=Outcome.UNREADABLE, reason=said)


def _left_out(path: Path) -> LeftOut | None:
    """Why a file is not planned; None for a config of a run."""
    from memplan.dialects.job import BESIDE

    if not may_be_config(path):
        return LeftOut.NO_CONFIG
    try:
        dialect = recognised(path)
    except UnrecognisedError:
        return LeftOut.NO_CONFIG
    except ForeignFormatError:
        return LeftOut.NOT_PLANNED
    if dialect == "hf_config":
        return LeftOut.MODEL
    if dialect in BESIDE:
        return LeftOut.PART
    lists_only = dialect == "manifest" and not listing(path)[1]
    return LeftOut.LIST if lists_only else None


def _job(path: Path) -> Path:
    """The config, or its folder where that holds more of its job."""
    return path.parent if _main(path.parent) == path else path


@cache
def _main(folder: Path) -> Path | None:
    """The one config of a folder that holds more of its job; None where there is none such."""
    if next(companions(folder), None) is None:
        return None
    try:
        return locate(folder)
    except MemplanError:
        return None


def _planned(path: Path, request: Request) -> Planned:
    reading = _reading(path, request)
    target = request.target(reading)
    plan = fit(reading, target, brief=request.save is None, **request.policy)
    saved = request.save(reading, plan, path) if request.save is not None and plan.feasible else None
    return Planned(
        path=path,
        outcome=_outcome(plan),
        reason="" if plan.feasible else _blocked(plan),
        dialect=reading.dialect,
        target=target.name,
        harm=plan.harm,
        changes=plan.changes,
        needed=plan.before.needed,
        needs=plan.after.needed,
        headroom=plan.after.headroom,
        slowdown=plan.slowdown,
        by_hand=len(plan.advice),
        saved=saved,
    )


def _reading(path: Path, request: Request) -> Reading:
    """The config with its own model, else with the one that stands in."""
    try:
        return read(path, **request.reading)
    except MemplanError:
        if request.model is None:
            raise
    return read(path, **request.reading, model=request.model)


def _outcome(plan: Plan) -> Outcome:
    if plan.feasible:
        return Outcome.FITS_AFTER_CHANGES if plan.changes else Outcome.FITS
    undecided = plan.after.verdict is Verdict.UNDECIDED
    return Outcome.UNDECIDED if undecided else Outcome.DOES_NOT_FIT


def _blocked(plan: Plan) -> str:
    """What keeps a run from fitting, in one line."""
    if plan.after.verdict is Verdict.UNDECIDED:
        reasons = dict.fromkeys(gap.reason for gap in plan.after.device.gaps)
        return "; ".join(reasons)
    if plan.blocking is None:
        return plan.offer or ""
    return f"{plan.blocking} alone takes {plan.after.component(plan.blocking).rounded()}"


def _told(error: MemplanError) -> str:
    where = f"{error.location}: " if error.location else ""
    return f"{where}{error.message}"
