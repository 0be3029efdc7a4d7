"""A config as it was in a commit: what may matter of it is laid out in a temporary folder.

The folder has the configs and sources of the commit, and links to what git does not track (a model's folder
that is ignored, say). The process stands in its copy of the folder it stood in, so that paths mean what they
meant; afterwards nothing is left of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from memplan.diff import git
from memplan.domain.errors import MemplanError

CONFIGS = (".yaml", ".yml", ".json", ".toml", ".ini", ".modelfile")
"""Files that can say something about a run, wherever they lie."""

PROGRAMS = (".py", ".cpp", ".cc", ".cxx", ".cu", ".cuh", ".c", ".h", ".hpp", ".hh")
"""Files whose values a config may name: of its own folder and below, and of the folders above it."""

LARGEST_FILE, LARGEST_TREE = 2**20, 2**26
"""Bytes of a file and of all: what is larger is data. What lies next to the config comes first."""


def split(text: str) -> tuple[str, str | None]:
    """``PATH@REVISION`` as its parts; a path that is there is no revision of another."""
    if os.path.lexists(text) or "@" not in text:
        return text, None
    places = [place for place, sign in enumerate(text) if sign == "@" and place]
    if not places:
        return text, None
    place = next((place for place in places if os.path.lexists(text[:place])), places[0])
    return text[:place], text[place + 1 :]


@contextmanager
def laid_out(path: str, revision: str) -> Iterator[str]:
    """The path to read within the block, as it was in the revision.

    Errors that come out of the block say at which revision.

    Raises:
        InputError: there is no git, no repository, or no such revision.
        FileAccessError: a part of the repository is not on this machine.
    """
    there = _standing(Path(os.path.abspath(path)))
    top = git.root(there).resolve()
    commit = git.commit(there, revision)
    before = Path.cwd()
    with TemporaryDirectory(prefix="memplan-") as folder:
        copy = Path(folder).resolve()
        wanted = Path(os.path.relpath(there.resolve() / os.path.relpath(os.path.abspath(path), there), top))
        _fill(copy, top, commit, wanted)
        inside = before.resolve().is_relative_to(top)
        stand = copy / before.resolve().relative_to(top) if inside else copy
        stand.mkdir(parents=True, exist_ok=True)
        os.chdir(stand)
        try:
            yield os.path.relpath(copy / wanted, stand)
        except MemplanError as error:
            error.message = f"at {revision}: {error.message}"
            raise
        finally:
            os.chdir(before)


def untracked(sources: Sequence[str]) -> tuple[str, ...]:
    """Those of the files read that were not the revision's own: links lead out of the folder stood in."""
    return tuple(name for name in sources if Path(name).is_symlink() or _linked(Path(name)))


def _linked(path: Path) -> bool:
    return any(parent.is_symlink() for parent in path.parents)


def _standing(path: Path) -> Path:
    """The nearest folder above a path that is there now."""
    return next(parent for parent in (path, *path.parents) if parent.is_dir())


def _fill(copy: Path, top: Path, commit: str, wanted: Path) -> None:
    entries = [entry for entry in git.tree(top, commit) if _harmless(entry.path)]
    is_folder = any(wanted in Path(entry.path).parents for entry in entries)
    base = wanted if is_folder else wanted.parent
    chosen = sorted(
        (entry for entry in entries if _matters(entry, base)),
        key=lambda entry: not Path(entry.path).is_relative_to(base),
    )
    sizes = accumulate(entry.size for entry in chosen)
    chosen = [entry for entry, total in zip(chosen, sizes, strict=True) if total <= LARGEST_TREE]
    links = []
    for entry, data in zip(chosen, git.contents(top, [entry.object for entry in chosen]), strict=True):
        if entry.mode == git.SYMLINK:
            links.append((copy / entry.path, os.fsdecode(data)))
            continue
        _write(copy / entry.path, data)
    for place, aim in links:
        _link(place, aim, copy)
    _link_untracked(copy, top, {*(entry.path for entry in entries), *git.indexed(top)}, wanted)


def _harmless(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and not {"..", ".git"} & {part.lower() for part in parts}


def _matters(entry: git.Entry, base: Path) -> bool:
    """Whether a file may decide what a config in the folder ``base`` means."""
    if entry.size > LARGEST_FILE:
        return False
    path = Path(entry.path)
    name = path.name.lower()
    if entry.mode == git.SYMLINK or name.endswith(CONFIGS) or name.startswith("modelfile"):
        return True
    return name.endswith(PROGRAMS) and (path.is_relative_to(base) or base.is_relative_to(path.parent))


def _write(place: Path, data: bytes) -> None:
    """One file of the commit; of names that differ by case alone a file system may hold but one."""
    with suppress(FileExistsError, NotADirectoryError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as stream:
            stream.write(data)


def _link(place: Path, aim: str, copy: Path) -> None:
    """A symbolic link of the commit, unless it leads out of it."""
    with suppress(OSError, ValueError):
        if Path(os.path.abspath(place.parent / aim)).is_relative_to(copy):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(aim)


def _link_untracked(copy: Path, top: Path, tracked: set[str], wanted: Path) -> None:
    """Links to what lies untracked in the folders from the root down to the config's, itself left out.

    In a folder that is itself given only folders are linked: a new config there is none of the revision's.
    """
    for folder in (wanted, *wanted.parents):
        prefix = "" if folder == Path() else f"{folder.as_posix()}/"
        known = {name[len(prefix) :].partition("/")[0] for name in tracked if name.startswith(prefix)}
        if not known or not (top / folder).is_dir():
            continue
        for item in (top / folder).iterdir():
            own = folder / item.name == wanted or (folder == wanted and not item.is_dir())
            if item.name not in known and item.name != ".git" and not own:
                with suppress(OSError):
                    (copy / folder).mkdir(parents=True, exist_ok=True)
                    (copy / folder / item.name).symlink_to(item)
