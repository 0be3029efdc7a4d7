"""What git keeps of a repository, asked for with commands that run nobody's hooks, filters or pagers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memplan.domain.errors import FileAccessError, InputError

_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "protocol.allow=never")
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "LC_ALL": "C",
}
"""Nothing is locked, asked for or fetched, and messages are in one language."""

_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
"""What git tells its hooks: which repository is meant follows from where a file lies."""

SYMLINK = "120000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file of a commit: its mode, object, size in bytes, and path from the root."""

    mode: str
    object: str
    size: int
    path: str


def root(folder: Path) -> Path:
    """The top folder of the work tree that holds a folder.

    Raises:
        InputError: there is none, or no git.
    """
    found = _run(folder, "rev-parse", "--show-toplevel")
    if found is None:
        raise InputError(f"{folder} is in no git work tree", hint="give two files instead of a revision")
    return Path(os.fsdecode(found).rstrip("\n"))


def commit(folder: Path, revision: str) -> str:
    """The commit that a revision means.

    Raises:
        InputError: there is none of that name.
    """
    plain = revision and not revision.startswith("-") and revision.isprintable()
    found = _run(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") if plain else None
    if found is None:
        raise InputError(
            f"git knows no revision {revision!r}", expected="a commit, branch or tag, such as HEAD~1"
        )
    return found.decode().strip()


def tree(folder: Path, commit: str) -> list[Entry]:
    """Every file of a commit, symbolic links included, submodules left out."""
    listed = _run(folder, "ls-tree", "-r", "-z", "-l", "--full-tree", commit)
    return list(_entries(listed or b""))


def indexed(folder: Path) -> list[str]:
    """Paths from the root of every file that git tracks now."""
    listed = _run(folder, "ls-files", "-z", "--full-name") or b""
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def contents(folder: Path, objects: Iterable[str]) -> Iterator[bytes]:
    """The bytes of objects, in order.

    Raises:
        FileAccessError: one is not on this machine.
    """
    asked = "".join(f"{name}\n" for name in objects)
    found = _run(folder, "cat-file", "--batch", given=asked.encode()) or b""
    at = 0
    for name in asked.split():
        end = found.find(b"\n", at)
        words = found[at:end].split()
        if end < 0 or len(words) != 3:
            raise FileAccessError(f"git has no object {name} here")
        size = int(words[2])
        yield found[end + 1 : end + 1 + size]
        at = end + size + 2


def _entries(listed: bytes) -> Iterator[Entry]:
    for line in listed.split(b"\0"):
        head, _, path = line.partition(b"\t")
        words = head.decode().split()
        if len(words) == 4 and words[1] == "blob" and words[3].isdigit():
            yield Entry(mode=words[0], object=words[2], size=int(words[3]), path=os.fsdecode(path))


def _run(folder: Path, *arguments: str, given: bytes | None = None) -> bytes | None:
    """What git prints; None when it says no."""
    try:
        done = subprocess.run(
            ["git", *_SAFE, "-C", str(folder), *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            check=False,
            env=_environment(),
        )
    except FileNotFoundError:
        raise InputError("git is not installed", hint="give two files instead of a revision") from None
    return done.stdout if done.returncode == 0 else None


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _HOOKS}
    return kept | _ENVIRONMENT
