"""A cache that outlives its process: a folder with one file a layer, written whole or not at all.

The files are made in ``NAME.partial-…`` beside the folder, which gets its name when all of them are on the
disk. A process that is killed in between leaves such a folder, which ``stale`` finds: nobody holds its lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import torch

from memplan.domain.errors import DocumentError, FieldError, FileAccessError
from memplan.mechanisms.context.growing import memory, refusal
from memplan.mechanisms.context.header import SIZE, Header
from memplan.mechanisms.context.layer import ENCODED_AT_ONCE, MappedLayer
from memplan.mechanisms.context.mapped import MappedCache

PARTIAL = ".partial-"
"""What the name of a folder has at its end while it is being written."""


def save(cache: MappedCache, folder: str | Path) -> None:
    """Write a cache to a new folder; the cache goes on as before.

    Raises:
        FieldError: layers have different numbers of tokens, or none.
        FileAccessError: the folder is there already, the disk is full or cannot be written to. Nothing is
            left behind then.
    """
    folder = _named(folder)
    if cache.tokens == 0 or any(layer.tokens != cache.tokens for layer in cache.layers):
        raise FieldError(
            "a cache is kept between steps only",
            expected="the same number of tokens in every layer, and at least one",
        )
    if folder.exists():
        raise FileAccessError(f"{folder} is there already", hint="name a new folder, or delete it first")
    identity = uuid4().bytes
    with _partial(folder) as partial:
        for index, layer in enumerate(cache.layers):
            assert layer.row is not None
            header = Header(
                row=layer.row,
                layer=index,
                layers=len(cache.layers),
                tokens=layer.tokens,
                identity=identity,
                checksum=0,
            )
            _write(partial / _name(index), header, layer)
        _sync(partial)
        partial.rename(folder)
    _sync(folder.parent)


def load(folder: str | Path, directory: str | Path | None = None) -> MappedCache:
    """A new cache in ``directory`` with what ``save`` wrote; the kept files are only read.

    Raises:
        UnrecognisedError: a file is none of a cache, or of an unknown version.
        DocumentError: a file is damaged, cut off, missing, or belongs to another cache.
        FileAccessError: the folder cannot be read, or the disk is full.
    """
    folder = _named(folder)
    headers = [_header(folder / _name(0))]
    first = headers[0]
    headers += [_header(folder / _name(index)) for index in range(1, first.layers)]
    for index, header in enumerate(headers):
        expected = replace(first, layer=index, checksum=header.checksum, row=header.row)
        if header != expected:
            raise DocumentError(f"{folder / _name(index)} belongs to another cache, or another layer")
    row = first.row
    cache = MappedCache(directory, layers=first.layers, bits=row.bits, group=row.group or 64)
    try:
        for index, (header, layer) in enumerate(zip(headers, cache.layers, strict=True)):
            _read(folder / _name(index), header, layer)
    except BaseException:
        cache.close()
        raise
    return cache


def stale(parent: str | Path) -> tuple[Path, ...]:
    """Folders below ``parent`` that a process was writing a cache to when it was killed.

    Raises:
        FileAccessError: ``parent`` cannot be read.
    """
    try:
        found = sorted(Path(parent).glob(f"*{PARTIAL}*"))
    except OSError as error:
        raise FileAccessError(f"{parent}: {error.strerror}") from error
    return tuple(folder for folder in found if _ours(folder) and not _locked(folder))


def remove_stale(parent: str | Path) -> tuple[Path, ...]:
    """Delete them; returns those that were.

    Raises:
        FileAccessError: one cannot be deleted.
    """
    found = stale(parent)
    for folder in found:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise FileAccessError(f"{folder}: {error.strerror}") from error
    return found


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """A locked folder to write to, which is gone afterwards unless it was renamed."""
    try:
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}{PARTIAL}", dir=folder.parent))
    except OSError as error:
        raise refusal(error, folder.parent, 0) from error
    try:
        with _opened(partial) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield partial
    except OSError as error:
        raise refusal(error, folder.parent, 0) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(path: Path, header: Header, layer: MappedLayer) -> None:
    """Rows first and the header last, so that a file with a header is whole."""
    checksum = 0
    with path.open("xb") as file:
        file.seek(SIZE)
        for rows in _parts(layer, header):
            part = memory(rows)
            checksum = zlib.crc32(part, checksum)
            file.write(part)
            layer.release()
        file.seek(0)
        file.write(replace(header, checksum=checksum).pack())
        file.flush()
        os.fsync(file.fileno())


def _parts(layer: MappedLayer, header: Header) -> Iterator[torch.Tensor]:
    at_once = max(1, ENCODED_AT_ONCE // header.row.bytes)
    for start in range(0, header.tokens, at_once):
        yield layer.rows(header.row, start, min(start + at_once, header.tokens))


def _header(path: Path) -> Header:
    """The header of a file that has the length it says."""
    try:
        with path.open("rb") as file:
            header = Header.unpack(file.read(SIZE), path)
            length = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise DocumentError(f"{path} is missing", expected="a folder that a cache was saved to") from error
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror}") from error
    expected = SIZE + header.tokens * header.row.bytes
    if length != expected:
        how = "cut off" if length < expected else "longer than it says"
        raise DocumentError(f"{path} is {how}: it has {length} bytes", expected=f"{expected} bytes")
    return header


def _read(path: Path, header: Header, layer: MappedLayer) -> None:
    """Copy the rows of a file into a layer, if they are what was written."""
    checksum, at = 0, 0
    width = header.row.bytes
    layer.reserve(header.tokens, header.row)
    at_once = max(1, ENCODED_AT_ONCE // width) * width
    try:
        with path.open("rb") as file:
            file.seek(SIZE)
            while part := file.read(at_once):
                checksum = zlib.crc32(part, checksum)
                layer.file.write(torch.frombuffer(bytearray(part), dtype=torch.uint8), at)
                at += len(part)
    except OSError as error:
        raise FileAccessError(f"{path}: {error.strerror}") from error
    if checksum != header.checksum:
        raise DocumentError(f"{path} is damaged: the checksum of its rows does not match")
    layer.row, layer.tokens = header.row, header.tokens


def _named(folder: str | Path) -> Path:
    if "\0" in str(folder):
        raise FileAccessError(f"{str(folder)!r} is no name of a folder: it has a null byte in it")
    return Path(folder)


def _name(layer: int) -> str:
    return f"layer-{layer:04}.kv"


def _ours(folder: Path) -> bool:
    """Whether a folder holds files of a cache, or nothing, and has a name as they are made here."""
    named = re.fullmatch(rf".+{re.escape(PARTIAL)}[a-z0-9_]{{8}}", folder.name)
    if named is None or not folder.is_dir():
        return False
    return all(re.fullmatch(r"layer-\d{4,}\.kv", file.name) for file in folder.iterdir())


def _locked(folder: Path) -> bool:
    """Whether somebody is still writing it."""
    try:
        with _opened(folder) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk too."""
    with _opened(folder) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
