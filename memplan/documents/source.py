"""A text file as it was read: its characters, its digest, and where an offset lies."""

from __future__ import annotations

import errno
import stat
from dataclasses import dataclass
from pathlib import Path

from memplan.domain.edit import Span
from memplan.domain.errors import FileAccessError, Location

LARGEST_FILE = 16 * 2**20
"""Bytes; no training config or source file comes near, and a checkpoint given by mistake is far above."""

BOM = "\ufeff"
_LONGEST_SHOWN = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A decoded text file. ``text.encode()`` equals the bytes it was read from.

    Attributes:
        path: the path as the user gave it, for messages.
        text: the file as UTF-8; a byte order mark stays as first character, line endings are untouched.
    """

    path: str
    text: str

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the bytes, computed when asked for: an estimate never asks."""
        from hashlib import sha256

        return sha256(encode(self.text)).hexdigest()

    @classmethod
    def open(cls, path: Path, shown: str | None = None) -> Source:
        """Read a file; ``shown`` is the path to use in messages.

        Raises:
            FileAccessError: the file is missing, a directory, unreadable, larger than 16 MiB or not
                UTF-8 text; a byte that is not text is located.
        """
        name = str(path) if shown is None else shown
        data = _read(path, name)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _not_text(name, data, error.start) from None
        if (at := text.find("\0")) >= 0:
            raise FileAccessError(
                f"{name} is a binary file: it holds a NUL character",
                location=locate(name, text, at, 1),
                expected="a text file in UTF-8",
            )
        return cls(path=name, text=text)

    @classmethod
    def of(cls, text: str, path: str = "<text>") -> Source:
        """A source from a string that is already in memory.

        Raises:
            UnicodeEncodeError: it holds lone surrogates, which no file can.
        """
        encode(text)
        return cls(path=path, text=text)

    def location(self, place: Span | int) -> Location:
        """The line and column of a span or of one character offset."""
        if isinstance(place, int):
            return locate(self.path, self.text, place, 1)
        return locate(self.path, self.text, place.start, place.end - place.start)

    def line(self, place: Span | int) -> int:
        """The 1-based line of a span's start or of one character offset."""
        return _line(self.text, place if isinstance(place, int) else place.start)


def encode(text: str) -> bytes:
    """The bytes of a text: UTF-8, with nothing added or translated."""
    return text.encode("utf-8")


def locate(path: str, text: str, offset: int, width: int) -> Location:
    """The place of ``text[offset:offset + width]``; a width that crosses the line's end is cut there."""
    start = max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1
    if start == 0 and text.startswith(BOM):
        start = 1
    ends = [at for at in (text.find("\n", start), text.find("\r", start)) if at >= 0]
    line = text[start : min(ends, default=len(text))]
    column = max(0, offset - start) + 1
    shown = line if column <= _LONGEST_SHOWN else ""
    return Location(
        path=path,
        line=_line(text, offset),
        column=column,
        text=shown,
        width=max(1, min(width, len(line) - column + 1)),
    )


def _line(text: str, offset: int) -> int:
    crlf = text.count("\r\n", 0, offset)
    if 0 < offset < len(text) and text[offset - 1 : offset + 1] == "\r\n":
        crlf += 1  # the offset is that of the \n itself, which still belongs to the line it ends
    return 1 + text.count("\n", 0, offset) + text.count("\r", 0, offset) - crlf


def _read(path: Path, name: str) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise FileAccessError(f"{name} is a directory", expected="a file")
        if not stat.S_ISREG(status.st_mode):
            raise FileAccessError(f"{name} is not a regular file", expected="a file")
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise FileAccessError(f"{name} does not exist", expected="a file that can be read") from None
    except OSError as error:
        raise FileAccessError(f"{name} cannot be read: {_reason(error)}") from None
    except ValueError:
        raise FileAccessError(f"{name!r} is not a path", expected="a path without NUL characters") from None
    if len(data) > LARGEST_FILE:
        raise FileAccessError(f"{name} is larger than 16 MiB", expected="a config or source file, not data")
    return data


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "its symbolic links form a loop"
    return (error.strerror or type(error).__name__).lower()


def _not_text(name: str, data: bytes, at: int) -> FileAccessError:
    prefix = data[:at].decode("utf-8")
    rest = data[at : at + 200].decode("utf-8", "replace")
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    return FileAccessError(
        f"{name} is not UTF-8 text: byte 0x{data[at]:02x} at offset {at}",
        location=locate(name, prefix + rest, len(prefix), 1),
        expected="a text file in UTF-8",
        hint="the file looks like UTF-16; save it as UTF-8" if utf16 else None,
    )
