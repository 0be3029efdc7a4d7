"""Take the last rewrite back: every file as it was, or none touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from memplan.apply.diff import unified
from memplan.apply.journal import SUFFIX, Entry, digest, is_temporary, load
from memplan.apply.transaction import Rewrite, commit
from memplan.domain.errors import FileAccessError, Location, StaleError


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """One file with its old text back, and the diff that led there."""

    path: str
    sha256: str
    diff: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Undone:
    """What was restored, or would have been when ``written`` is false; a file that was as before is not."""

    files: tuple[Restored, ...]
    written: bool

    @property
    def diff(self) -> str:
        """The unified diffs of all files."""
        return "".join(item.diff for item in self.files)


def undo(path: str | Path, *, dry_run: bool = False) -> Undone:
    """Restore what the last ``apply`` of a config with ``--backup`` changed, in all of its files.

    A rewrite of several files that was killed half-way is taken back as well. The journal and the originals
    that memplan made go with it.

    Args:
        path: the config, as it was given to ``apply``.
        dry_run: write nothing; the result holds the diffs.

    Raises:
        FileAccessError: there is nothing to undo, or a file or its original cannot be read or written.
        StaleError: a file was changed since, or its original was; the first difference is named.
        InputError: the journal is not what memplan wrote.
    """
    from memplan.read import locate

    config = locate(Path(path))
    journal = config.with_name(config.name + SUFFIX)
    if not journal.exists():
        raise FileAccessError(
            f"there is nothing to undo for {config}: {journal.name} is not beside it",
            expected="a config that memplan apply --backup rewrote",
        )
    entries = load(journal)
    rewrites = [rewrite for item in entries if (rewrite := _rewrite(journal, item)) is not None]
    if not dry_run:
        if rewrites:
            commit(rewrites, backup=False, verify=lambda: _verify(rewrites))
        _clear(journal, entries)
    files = tuple(
        Restored(path=item.path, sha256=digest(item.after), diff=unified(item.path, item.before, item.after))
        for item in rewrites
    )
    return Undone(files=files, written=not dry_run)


def _rewrite(journal: Path, item: Entry) -> Rewrite | None:
    """The way back of one file; None when it is there already."""
    from memplan.documents.source import Source

    file, kept = item.file(journal), item.kept(journal)
    current = Source.open(file)
    if current.sha256 == item.before:
        return None
    original = Source.open(kept)
    if original.sha256 != item.before:
        raise StaleError(f"{kept} is not the original of {file} any more; nothing was restored")
    if current.sha256 != item.after:
        raise _changed(file, item.written(original.text), current.text, kept)
    return Rewrite(path=str(file), before=current.text, after=original.text)


def _changed(file: Path, written: str, current: str, kept: Path) -> StaleError:
    """The first line that is not what memplan wrote."""
    was, now = written.splitlines(), current.splitlines()
    pairs = enumerate(zip(was, now, strict=False), 1)
    line = next((number for number, (old, new) in pairs if old != new), min(len(was), len(now)) + 1)
    text = now[line - 1] if line <= len(now) else ""
    wrote = f"memplan wrote {was[line - 1].strip()!r} there" if line <= len(was) else "it is new"
    what = f"line {line} differs: {wrote}" if line <= max(len(was), len(now)) else "its line ends differ"
    return StaleError(
        f"{file} was changed since memplan wrote it, so nothing was restored; {what}",
        location=Location(path=str(file), line=line, text=text[:160], width=max(1, len(text[:160]))),
        hint=f"take what you need from {kept}",
    )


def _verify(rewrites: list[Rewrite]) -> None:
    for item in rewrites:
        if Path(item.path).read_bytes() != item.after.encode():
            raise StaleError(f"{item.path} changed while it was being restored; nothing was written")


def _clear(journal: Path, entries: tuple[Entry, ...]) -> None:
    """Remove the journal first: without it, an original that is left over does no harm."""
    journal.unlink(missing_ok=True)
    for item in entries:
        file = item.file(journal)
        for left in [neighbour for neighbour in file.parent.iterdir() if is_temporary(neighbour.name, file)]:
            left.unlink(missing_ok=True)
        if item.made:
            item.kept(journal).unlink(missing_ok=True)
