"""Write a plan into the files it was made from: exactly the planned values, all of them or none.

A rewrite is read back twice, from the new texts before anything is written and from the files
afterwards; unless both give the planned workload, the files are as they were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from memplan.apply.checklist import Checklist, checklist
from memplan.apply.diff import unified
from memplan.apply.journal import SUFFIX
from memplan.apply.transaction import Rewrite, commit
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError, Location, MemplanError, StaleError
from memplan.domain.plan import Plan
from memplan.domain.workload import Workload

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

__all__ = ["Applied", "Checklist", "FileChange", "apply"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """One rewritten file: its edits, a unified diff, both digests, and where the original was kept."""

    path: str
    edits: tuple[Edit, ...]
    diff: str
    old_sha256: str
    new_sha256: str
    backup: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What was written, or would have been when ``written`` is false.

    ``files`` is empty when nothing had to change; the checklist may still name what is set elsewhere.
    """

    files: tuple[FileChange, ...]
    written: bool
    checklist: Checklist

    @property
    def diff(self) -> str:
        """The unified diffs of all files."""
        return "".join(change.diff for change in self.files)


def apply(reading: Reading, plan: Plan, *, backup: bool = False, dry_run: bool = False) -> Applied:
    """Rewrite the files of a config as planned.

    Args:
        reading: the config the plan was made for.
        plan: a feasible plan; one without changes, or whose values are there already, writes nothing.
        backup: keep each original beside its file, as ``<name>.orig``, and beside the config what
            ``undo`` needs.
        dry_run: write nothing; the result holds the diffs.

    Raises:
        StaleError: a file changed since the plan was made.
        EditRefusedError: the plan does not fit, a value of it cannot be written, or the rewritten files
            would not read as planned.
        FileAccessError: a file or its folder cannot be written; checked before anything is.
    """
    if not plan.changes or _done_already(reading, plan):
        return Applied(files=(), written=False, checklist=checklist(reading, plan, ()))
    _refuse_unwritable(plan)
    rewrites = _rewrites(plan)
    if not rewrites:
        return Applied(files=(), written=False, checklist=checklist(reading, plan, ()))
    texts = {rewrite.path: rewrite.after for rewrite in rewrites}
    _verify(reading, plan, texts)
    backups = {} if dry_run else _commit(reading, plan, rewrites, backup)
    files = tuple(_file_change(rewrite, plan, backups.get(rewrite.path)) for rewrite in rewrites)
    edits = [edit for change in files for edit in change.edits]
    return Applied(files=files, written=not dry_run, checklist=checklist(reading, plan, edits))


def _commit(reading: Reading, plan: Plan, rewrites: list[Rewrite], backup: bool) -> dict[str, str]:
    config = reading.document.path
    return commit(
        rewrites,
        backup=backup,
        verify=lambda: _verify(reading, plan, None),
        journal=config.with_name(config.name + SUFFIX),
    )


def _done_already(reading: Reading, plan: Plan) -> bool:
    """Whether the files hold the planned values already.

    Raises:
        StaleError: they hold neither those nor what the plan was made from.
    """
    from memplan.read import reread

    stale = [path for path, digest in plan.files.items() if _digest(path) != digest]
    if not stale:
        return False
    try:
        if reread(reading).workload == _in_files(reading, plan):
            return True
    except MemplanError:
        pass  # whatever it holds now, it is not what the plan was made from
    raise StaleError(
        f"{stale[0]} changed since the plan was made; nothing was written",
        location=Location(path=stale[0], line=1),
        hint="make a new plan",
    )


def _digest(path: str) -> str | None:
    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None


def _refuse_unwritable(plan: Plan) -> None:
    if not plan.feasible:
        raise EditRefusedError("the plan does not fit, so it is not written", hint=plan.offer)
    if not plan.by_hand:
        return
    first, *rest = plan.by_hand
    place = Location(path=first.path, line=first.line or 1) if first.path else None
    others = [advice.message for advice in rest]
    raise EditRefusedError(
        f"nothing was written, because not all of the plan can be: {first.message}",
        location=place,
        hint="; ".join(["make the changes by hand", *others]),
    )


def _rewrites(plan: Plan) -> list[Rewrite]:
    from memplan.documents import edits
    from memplan.documents.source import Source

    by_path: dict[str, list[Edit]] = {}
    for edit in plan.edits:
        by_path.setdefault(edit.path, []).append(edit)
    found = []
    for path, changes in by_path.items():
        source = Source.open(Path(path), path)
        if source.sha256 != plan.files.get(path, source.sha256):
            raise StaleError(f"{path} changed while it was being rewritten; nothing was written")
        found.append(Rewrite(path=path, before=source.text, after=edits.apply(source, changes)))
    return [rewrite for rewrite in found if rewrite.before != rewrite.after]


def _verify(reading: Reading, plan: Plan, texts: Mapping[str, str] | None) -> None:
    from memplan.read import reread

    found, planned = reread(reading, texts).workload, _in_files(reading, plan)
    if found != planned:
        raise EditRefusedError(
            f"the rewritten {reading.path} does not read as planned, so nothing was changed: "
            f"{_difference(planned, found)}",
            hint="make the changes by hand",
        )


def _in_files(reading: Reading, plan: Plan) -> Workload:
    """The planned workload as far as files say it: what is set outside them is as it was."""
    found = plan.after.workload
    for advice in plan.outside:
        found = found.changed(advice.field, reading.workload.at(advice.field))
    return found


def _difference(planned: Workload, found: Workload) -> str:
    for section in fields(Workload):
        wanted, got = getattr(planned, section.name), getattr(found, section.name)
        if wanted != got:
            return f"{section.name} should be {wanted}, and is {got}"
    return "no field differs"


def _file_change(rewrite: Rewrite, plan: Plan, backup: str | None) -> FileChange:
    return FileChange(
        path=rewrite.path,
        edits=tuple(edit for edit in plan.edits if edit.path == rewrite.path),
        diff=unified(rewrite.path, rewrite.before, rewrite.after),
        old_sha256=sha256(rewrite.before.encode()).hexdigest(),
        new_sha256=sha256(rewrite.after.encode()).hexdigest(),
        backup=backup,
    )
