"""What a rewrite did, written beside the config before the first file is replaced: what an undo needs.

``train.yml.undo`` is JSON: of every file its path (relative to the journal's folder, if it is below), the
name of the kept original beside it, the digests of both texts, and the one range in which they differ. It
stays with the originals that ``--backup`` keeps; of several files it is there while they are replaced in
any case, so that a rewrite that was killed half-way can be taken back.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from memplan.domain.errors import FileAccessError, InputError

SUFFIX = ".undo"
BACKUP_SUFFIX = ".orig"
SCHEMA = "memplan.journal/1"
_TEMPORARY = r"\.{name}\.[A-Za-z0-9_]{{6,12}}\.memplan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One rewritten file.

    Attributes:
        path: relative to the journal's folder, or absolute.
        original: the name of the file beside it that holds its old text.
        made: whether memplan made that file, and may remove it.
        before, after: sha256 of the old and of the new text.
        start, end, text: the new text is the old one with ``text`` at these characters.
    """

    path: str
    original: str
    made: bool
    before: str
    after: str
    start: int
    end: int
    text: str

    def file(self, journal: Path) -> Path:
        """Where the rewritten file is."""
        return journal.parent / self.path

    def kept(self, journal: Path) -> Path:
        """Where its old text is."""
        return self.file(journal).with_name(self.original)

    @property
    def temporary(self) -> bool:
        """Whether the old text is in a file that goes when all are written: the rewrite was interrupted."""
        return not self.original.endswith(BACKUP_SUFFIX)

    def written(self, original: str) -> str:
        """The new text."""
        return original[: self.start] + self.text + original[self.end :]


def entry(journal: Path, path: Path, original: Path, before: str, after: str, *, made: bool) -> Entry:
    """The entry of a file that is about to be rewritten."""
    folder, file = Path(os.path.abspath(journal.parent)), Path(os.path.abspath(path))
    head = _shared(before, after)
    tail = _shared(before[head:][::-1], after[head:][::-1])
    return Entry(
        path=str(file.relative_to(folder) if file.is_relative_to(folder) else file),
        original=original.name,
        made=made,
        before=digest(before),
        after=digest(after),
        start=head,
        end=len(before) - tail,
        text=after[head : len(after) - tail],
    )


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (left, right) in pairs if left != right), min(len(one), len(other)))


def digest(text: str) -> str:
    """sha256 of a text's bytes."""
    return sha256(text.encode()).hexdigest()


def is_temporary(name: str, file: Path) -> bool:
    """Whether a name is that of a file which waited to replace another."""
    return re.fullmatch(_TEMPORARY.format(name=re.escape(file.name[:100])), name) is not None


def load(journal: Path) -> tuple[Entry, ...]:
    """The entries of a journal.

    Raises:
        FileAccessError: it cannot be read.
        DocumentError: it is not JSON.
        InputError: it is not what memplan writes, or names an original that is not beside its file.
    """
    from memplan.documents import json as documents
    from memplan.documents.source import Source
    from memplan.documents.tree import plain

    found = plain(documents.parse(Source.open(journal)))
    files = found.get("files") if isinstance(found, dict) and found.get("schema") == SCHEMA else None
    if not isinstance(files, list) or not all(_sound(item) for item in files):
        raise InputError(f"{journal} is not what memplan writes; nothing was restored")
    return tuple(Entry(**item) for item in files)


def _sound(item: Any) -> bool:
    kinds = {"path": str, "original": str, "made": bool, "before": str, "after": str, "text": str}
    if not isinstance(item, dict) or set(item) != {*kinds, "start", "end"}:
        return False
    numbers = [item["start"], item["end"]]
    if not all(type(item[name]) is kind for name, kind in kinds.items()) or "\0" in item["path"]:
        return False
    if not all(type(number) is int for number in numbers) or not 0 <= numbers[0] <= numbers[1]:
        return False
    # Only a neighbour of the file can be its original: a journal someone else wrote reaches no further.
    file = Path(item["path"])
    return bool(item["original"] == file.name + BACKUP_SUFFIX or is_temporary(item["original"], file))


def refuse_interrupted(journal: Path) -> None:
    """Stop before a second rewrite takes away what the undo of a killed one needs.

    Raises:
        FileAccessError: a rewrite of these files was killed half-way.
    """
    if not journal.exists():
        return
    try:
        left = [item for item in load(journal) if item.temporary and item.kept(journal).exists()]
    except InputError:
        return  # whatever it is, it is no work of ours
    if left:
        config = str(journal).removesuffix(SUFFIX)
        raise FileAccessError(
            f"an earlier rewrite of {config} was interrupted; nothing was written",
            hint=f"memplan apply --undo {config}",
        )


@contextmanager
def recorded(journal: Path, entries: Sequence[Entry], *, keep: bool) -> Iterator[None]:
    """The journal, on disk while the block runs; afterwards it stays if the block ended well and ``keep``.

    Otherwise what was there before is there again.
    """
    earlier = journal.read_bytes() if journal.exists() else None
    content = {"schema": SCHEMA, "files": [asdict(item) for item in entries]}
    done = False
    try:
        _write(journal, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())
        yield
        done = True
    finally:
        if not (done and keep):
            if earlier is None:
                journal.unlink(missing_ok=True)
            else:
                _write(journal, earlier)


def _write(journal: Path, data: bytes) -> None:
    """In one go: a journal that is half there would be worse than none."""
    fresh = journal.with_name(f".{journal.name[:100]}.memplan")
    with fresh.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.rename(journal)
