"""Plans as files: made by one command, reviewed by a person, applied by another.

The file names the config, the target, every change and every edit, the digest of each file the plan
was made from, and one digest per section of itself. Only the changes are acted on: the edits are worked
out again from the files as they are, and must be those that were reviewed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memplan.apply.plan_content import SECTIONS, content_of, digest, spelled_edits
from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import FieldError, FileAccessError, Location, StaleError
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm
from memplan.domain.plan import Change, Plan
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.estimate import estimate

if TYPE_CHECKING:
    from memplan.dialects.fields import Value
    from memplan.dialects.reading import Reading

SCHEMA = "memplan.plan-file/1"
_JOB_KEYS = ("model", "with", "set")
_CHANGE_KEYS = ("field", "before", "after", "harm", "reason", "saves", "slowdown", "requires")
_HEADER = """\
# A plan by memplan. Review it, then: memplan apply --plan THIS_FILE
# It is refused if it was edited, or if a file it names has changed since.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedPlan:
    """A plan file as read: which config and target it is for, and what it changes.

    ``source`` is the config's path from the current folder, ``beside`` are those of the job's other files,
    ``model`` and ``overrides`` what the command line said, ``ram`` the host memory that was reckoned with;
    ``entries`` are the file's sections.
    """

    path: Path
    source: Path
    dialect: str
    model: str | None
    beside: tuple[Path, ...]
    overrides: tuple[str, ...]
    gpu: str
    ram: str | None
    entries: Mapping[str, Value]

    @property
    def memory(self) -> Bytes | None:
        """The host memory that was reckoned with."""
        return None if self.ram is None else Bytes.parse(self.ram)

    def plan(
        self,
        reading: Reading,
        target: Target,
        estimator: Callable[[Workload, Target | None], Estimate] | None = None,
    ) -> Plan:
        """The plan, worked out again for the config as it is now.

        A config that holds the planned values already gives a plan without changes, but for those that are
        set outside of files.

        Raises:
            StaleError: a file changed since the plan was made, or its changes do not lead to its edits.
            FieldError: a change is not one memplan knows.
        """
        from memplan.dialects import edits

        count = estimator or estimate
        changes = tuple(_change(entry, reading.workload) for entry in self.entries["changes"].items())
        after = reading.workload
        for change in changes:
            after = after.changed(change.field, change.after)
        before = count(reading.workload, target)
        if after == reading.workload:
            return self._plan(reading, (before, before), ())
        asked = [(change.field, change.before, change.after) for change in changes]
        written, advice = edits(reading, asked)
        estimates = before, count(after, target)
        left = _left(changes, advice)
        if left and all(change in left or change.before == change.after for change in changes):
            if len(left) == len(changes):
                self._check_files(reading)
            return self._plan(reading, estimates, left, (), tuple(item for item in advice if item.outside))
        self._check_files(reading)
        plan = self._plan(reading, estimates, changes, written, advice)
        self._check_edits(plan.edits)
        return plan

    def _plan(
        self,
        reading: Reading,
        estimates: tuple[Estimate, Estimate],
        changes: tuple[Change, ...],
        *written: Any,
    ) -> Plan:
        margin = self.entries["margin"].amount()
        before, after = estimates
        limit = after.target.limit if after.target else after.device.high + margin
        profile = self.entries["profile"]
        short = _short_of_ram(after, margin)
        return Plan(
            feasible=after.device.stays_within(limit - margin) and short is None,
            harm=max((change.harm for change in changes), default=Harm.EXACT),
            changes=changes,
            before=before,
            after=after,
            margin=margin,
            slowdown=self.entries["slowdown"].number(0, 1e9),
            profile=None if profile.is_null else profile.word(),
            edits=written[0] if written else (),
            advice=written[1] if written else (),
            blocking=after.host.largest().name if short else None,
            offer=short,
            files=dict(reading.files),
        )

    def _check_files(self, reading: Reading) -> None:
        folder = self.path.parent
        now = {os.path.realpath(name): digest for name, digest in reading.files.items()}
        for name, recorded in self.entries["files"].entries().items():
            if now.get(os.path.realpath(folder / name)) != recorded.word():
                raise StaleError(
                    f"{folder / name} is not what it was when {self.path} was made",
                    location=recorded.location,
                    hint="make a new plan",
                )

    def _check_edits(self, edits: Iterable[Edit]) -> None:
        recorded = _plain(self.entries["edits"])
        for now in spelled_edits(edits, self.path.parent):
            if now not in recorded:
                raise StaleError(
                    f"{self.path} does not list the edit {now['path']}:{now['line']} "
                    f"{now['before']} → {now['after']} that its changes lead to",
                    location=self.entries["edits"].location,
                    hint="make a new plan",
                )


def _left(changes: Iterable[Change], advice: Iterable[Advice]) -> tuple[Change, ...]:
    """The changes that are made where the run is started."""
    outside = {item.field for item in advice if item.outside}
    return tuple(change for change in changes if change.field in outside)


def _short_of_ram(after: Estimate, margin: Bytes) -> str | None:
    """Why the target's host memory is not enough for sure, None if it is or is not known."""
    if after.target is None or after.target.ram is None:
        return None
    room = Bytes(after.target.ram - (margin if after.target.host_only else 0))
    return None if after.host.high <= room else after.host.shortage(room)


def write(reading: Reading, plan: Plan, path: Path) -> None:
    """Save a plan. Paths in it are relative to its own folder, so that folder and config can move together.

    Raises:
        FileAccessError: the file cannot be written. What was there stays.
    """
    import yaml

    folder = path.parent
    content = content_of(reading, plan, folder)
    digests = {name: digest(value) for name, value in content.items()}
    document = {"schema": SCHEMA, **content, "digests": digests}
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)
    # A device such as /dev/stdout is written to; anything else is complete or not there.
    plain = path.is_file() or not path.exists()
    whole = Path(os.path.realpath(path))
    beside = whole.with_name(f".{whole.name[:100]}.{os.getpid()}") if plain else path
    try:
        beside.write_text(_HEADER + text, encoding="utf-8")
        if plain:
            beside.replace(whole)
    except OSError as error:
        if plain:
            beside.unlink(missing_ok=True)
        raise FileAccessError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None


def load(path: Path) -> SavedPlan:
    """Read a plan file.

    Raises:
        DocumentError, FieldError: it is not a plan file.
        StaleError: it was edited since it was made; the section is named.
        FileAccessError: it cannot be read.
    """
    from memplan.dialects.fields import Value
    from memplan.documents import yaml
    from memplan.documents.source import Source

    source = Source.open(path)
    root = Value(source=source, key="", node=yaml.parse(source))
    entries = root.entries(("schema", *SECTIONS, "digests"))
    for name in ("schema", *SECTIONS, "digests"):
        if name not in entries:
            raise FieldError(
                f"{path} is not a plan file: it has no {name}", location=Location(path=str(path), line=1)
            )
    entries["schema"].choice((SCHEMA,))
    digests = entries["digests"].entries(SECTIONS)
    for name in SECTIONS:
        if name not in digests or digests[name].word() != digest(_plain(entries[name])):
            raise StaleError(
                f"{path} was edited since it was made: its {name} differs",
                location=entries[name].location,
                hint="make a new plan, with --keep or --allow as you need",
            )
    job = entries["job"].entries(_JOB_KEYS)
    for name in _JOB_KEYS:
        if name not in job:
            raise entries["job"].fail(f"has no {name}")
    return SavedPlan(
        path=path,
        source=_from(path.parent, entries["source"]),
        dialect=entries["dialect"].word(),
        model=None if job["model"].is_null else job["model"].word(),
        beside=tuple(_from(path.parent, item) for item in job["with"].items()),
        overrides=tuple(item.word() for item in job["set"].items()),
        gpu=entries["gpu"].word(),
        ram=None if entries["ram"].is_null else str(entries["ram"].amount()),
        entries=entries,
    )


def _from(folder: Path, value: Value) -> Path:
    return Path(os.path.normpath(folder / value.word()))


def _change(entry: Value, workload: Workload) -> Change:
    from memplan.dialects.schema import leaves
    from memplan.dialects.settings import reader_of

    parts = entry.entries(_CHANGE_KEYS)
    for key in _CHANGE_KEYS:
        if key not in parts:
            raise entry.fail(f"has no {key}")
    field = parts["field"].word()
    declared = dict(workload.model.values) if isinstance(workload.model, DeclaredModel) else {}
    known = {leaf.field: leaf for leaf in leaves().values()}
    if field not in declared:
        parts["field"].choice((*declared, *known))
    return Change(
        field=field,
        before=declared[field] if field in declared else workload.at(field),
        after=reader_of(workload.model, field)(parts["after"])
        if field in declared
        else known[field].read(parts["after"]),
        harm=Harm[parts["harm"].choice([harm.label for harm in Harm]).upper()],
        reason=parts["reason"].word(),
        saves=Bytes(int(parts["saves"].number(-(2.0**60), 2.0**60))),
        slowdown=parts["slowdown"].number(0, 1e9),
        requires=tuple(item.word() for item in parts["requires"].items()),
    )


def _plain(value: Value) -> Any:
    from memplan.documents.tree import plain

    return plain(value.node)
