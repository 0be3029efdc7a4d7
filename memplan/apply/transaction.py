"""Replace several files as one: every new text is on disk before the first rename, every old one as well.

Each file is replaced by renaming a complete, synced neighbour over it, so that a reader sees the old
or the new text and never half of one. If anything fails on the way, what was renamed is renamed back.
A symbolic link stays a link: the file it points to is replaced.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from memplan.apply.journal import BACKUP_SUFFIX, Entry, entry, recorded, refuse_interrupted
from memplan.apply.locks import locked
from memplan.domain.errors import EditRefusedError, FileAccessError, Location, StaleError

_WRITE_BITS = 0o222


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """A file's text as it is, and as it shall be."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Staged:
    """A file with its new and its old text waiting beside it."""

    rewrite: Rewrite
    real: Path
    new: Path
    old: Path


def commit(
    rewrites: Sequence[Rewrite], *, backup: bool, verify: Callable[[], None], journal: Path | None = None
) -> dict[str, str]:
    """Write all files, or leave all as they were.

    Args:
        rewrites: the files; no two may be the same one.
        backup: keep each original as ``<path>.orig``.
        verify: called when all files are in place; an exception from it undoes everything.
        journal: where to note what an undo needs. It stays where ``backup`` is asked for; of several files it
            is there while they are replaced in any case.

    Returns:
        The backup's path by the file's.

    Raises:
        FileAccessError: a file or its folder is read-only, the disk is full, a backup is in the way, another
            process is writing, or an earlier rewrite was interrupted.
        StaleError: a file is no longer what it was read as.
        EditRefusedError: two paths lead to one file.
    """
    reals = {rewrite.path: _writable(rewrite.path) for rewrite in rewrites}
    _refuse_twins(reals)
    folders = [real.parent for real in reals.values()]
    with locked(folders if journal is None else [*folders, journal.parent.resolve()]), ExitStack() as steps:
        if journal is not None:
            refuse_interrupted(journal)
        backups = _backups(rewrites) if backup else {}
        staged = steps.enter_context(_staged(rewrites, reals))
        made = steps.enter_context(_kept(rewrites, backups))
        if journal is not None and (backup or len(rewrites) > 1):
            entries = [_entry(journal, item, backups, made) for item in staged]
            steps.enter_context(recorded(journal, entries, keep=backup))
        _replace(staged, verify)
    return backups


def _entry(journal: Path, item: _Staged, backups: dict[str, str], made: Sequence[Path]) -> Entry:
    """What an undo needs to know of a file; without a backup, its old text is what waits beside it."""
    path = item.rewrite.path
    original = Path(backups[path]) if path in backups else item.old
    file = Path(path) if path in backups else item.real
    return entry(journal, file, original, item.rewrite.before, item.rewrite.after, made=original in made)


def _writable(path: str) -> Path:
    """The file a path leads to, once it is clear that it and its folder can be written."""
    try:
        real = Path(path).resolve(strict=True)
        mode = real.stat().st_mode
        folder_mode = real.parent.stat().st_mode
    except OSError as error:
        raise _failed(path, error) from None
    if not stat.S_ISREG(mode):
        raise FileAccessError(f"{path} is not a regular file; nothing was written")
    # The permission bits count even for root, whom the system would let through.
    if not mode & _WRITE_BITS or not os.access(real, os.W_OK):
        raise FileAccessError(
            f"{path} is read-only; nothing was written", location=Location(path=path, line=1)
        )
    if not folder_mode & _WRITE_BITS or not os.access(real.parent, os.W_OK | os.X_OK):
        raise FileAccessError(f"the folder of {path} is read-only; nothing was written")
    return real


def _refuse_twins(reals: dict[str, Path]) -> None:
    seen: dict[Path, str] = {}
    for path, real in reals.items():
        if real in seen:
            raise EditRefusedError(f"{seen[real]} and {path} are one file; nothing was written")
        seen[real] = path


def _backups(rewrites: Sequence[Rewrite]) -> dict[str, str]:
    for rewrite in rewrites:
        kept = Path(rewrite.path + BACKUP_SUFFIX)
        try:
            in_the_way = (kept.exists() or kept.is_symlink()) and kept.read_bytes() != rewrite.before.encode()
        except OSError as error:
            raise _failed(str(kept), error) from None
        if in_the_way:
            raise FileAccessError(
                f"{kept} exists and is not what {rewrite.path} holds now; nothing was written",
                hint=f"move {kept} away, or take the change back that it was kept for: memplan apply --undo",
            )
    return {rewrite.path: rewrite.path + BACKUP_SUFFIX for rewrite in rewrites}


@contextmanager
def _staged(rewrites: Sequence[Rewrite], reals: dict[str, Path]) -> Iterator[list[_Staged]]:
    """New and old texts as files beside the ones they are for; what is left of them goes at the end."""
    temporary: list[Path] = []
    try:
        staged = []
        for rewrite in rewrites:
            real = reals[rewrite.path]
            new = _beside(real, rewrite.after, temporary)
            old = _beside(real, rewrite.before, temporary)
            staged.append(_Staged(rewrite=rewrite, real=real, new=new, old=old))
        yield staged
    except OSError as error:
        raise _failed(str(error.filename or rewrites[0].path), error) from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _beside(real: Path, text: str, temporary: list[Path]) -> Path:
    """A synced file in the same folder with the same owner and mode."""
    status = real.stat()
    handle, name = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name[:100]}.", suffix=".memplan")
    temporary.append(Path(name))
    with os.fdopen(handle, "wb") as stream:
        stream.write(text.encode())
        stream.flush()
        if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):  # another user's group file stays writable, under one's own name
                os.fchown(handle, status.st_uid, status.st_gid)
        os.fchmod(handle, stat.S_IMODE(status.st_mode))
        os.fsync(handle)
    return Path(name)


@contextmanager
def _kept(rewrites: Sequence[Rewrite], backups: dict[str, str]) -> Iterator[Sequence[Path]]:
    """Backups of the originals; those made here, which it gives, are removed when the rewrite fails."""
    made: list[Path] = []
    try:
        for rewrite in rewrites:
            name = backups.get(rewrite.path)
            if name is not None and not Path(name).exists():
                made.append(Path(name))
                _back_up(Path(rewrite.path), Path(name), rewrite.before)
        yield made
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        raise


def _back_up(path: Path, kept: Path, text: str) -> None:
    with kept.open("xb") as stream:
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())
    kept.chmod(stat.S_IMODE(path.stat().st_mode))


def _replace(staged: Sequence[_Staged], verify: Callable[[], None]) -> None:
    for item in staged:
        if item.real.read_bytes() != item.rewrite.before.encode():
            raise StaleError(f"{item.rewrite.path} changed while it was being rewritten; nothing was written")
    try:
        for item in staged:
            os.replace(item.new, item.real)
        _sync_folders(staged)
        verify()
    except BaseException:
        _restore(staged)
        raise


def _restore(staged: Sequence[_Staged]) -> None:
    """Rename the old text back over every file whose new text has been renamed away."""
    for item in staged:
        if not item.new.exists():
            os.replace(item.old, item.real)
    _sync_folders(staged)


def _sync_folders(staged: Sequence[_Staged]) -> None:
    """Make the renames survive a power failure, where the system can sync a folder."""
    for folder in dict.fromkeys(item.real.parent for item in staged):
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _failed(path: str, error: OSError) -> FileAccessError:
    reason = (error.strerror or type(error).__name__).lower()
    return FileAccessError(f"{path} cannot be written: {reason}; all files are as they were")
