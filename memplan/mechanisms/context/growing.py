"""A file of this process alone that grows and is mapped into memory, with disk space taken before it is used.

The file has no name: it is made with ``O_TMPFILE``, or unlinked as soon as it is there where a file system
lacks that. Whatever ends the process, an exception, an exit or SIGKILL, the kernel then takes the disk space
back, and nobody else can truncate what is mapped.

Space is taken with ``posix_fallocate``, so that a full disk is an error of the call that asks for more,
never a SIGBUS in the middle of a computation. Data goes in with ``pwrite``: the pages of the mapping are not
touched by it, so writing does not make the process larger. A page that is read through the mapping counts to
the process (``RssFile``, on tmpfs ``RssShmem``) until ``release``; beside that it lies in the page cache,
which is nobody's and which the kernel takes back when memory runs short. On file systems that copy on write
(btrfs, ZFS) space that was taken may still run out.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

import torch

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FileAccessError, InputError

PAGE: Final = 4096
"""Bytes that files grow by at the least; the page size of x86 and a divisor of larger ones."""

_BLOCK = 2**22
"""Bytes written at once where a file system has to be filled by hand."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class GrowingFile:
    """An unnamed file in ``directory``; its bytes are seen as tensors without being read in.

    Raises:
        FileAccessError: the directory is missing, no directory, or cannot be written to.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.size = 0
        self._descriptor = _unnamed(directory)
        self._closing = weakref.finalize(self, os.close, self._descriptor)
        self._map: mmap.mmap | None = None
        self._bytes: torch.Tensor | None = None

    @property
    def closed(self) -> bool:
        """Whether the file was given up."""
        return not self._closing.alive

    @property
    def descriptor(self) -> int:
        """The open file, for whoever reads it past the mapping."""
        self._refuse_closed()
        return self._descriptor

    def reserve(self, size: int) -> None:
        """Take disk space for ``size`` bytes in all; what is there stays as it is, also if this fails.

        Raises:
            FileAccessError: the disk, a quota or the largest file is full; nothing was taken.
        """
        self._refuse_closed()
        size = -(-size // PAGE) * PAGE
        if size <= self.size:
            return
        try:
            _allocate(self._descriptor, self.size, size - self.size)
        except OSError as error:
            # What was taken of the new part goes back; the old part is mapped, and is not touched.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise refusal(error, self.directory, size - self.size) from error
        self.size = size
        self._map = self._bytes = None

    def write(self, data: torch.Tensor, offset: int) -> None:
        """Write the bytes of a contiguous tensor at ``offset``, within what was reserved.

        Raises:
            FileAccessError: the disk fails.
        """
        self._refuse_closed()
        count = data.numel() * data.element_size()
        assert data.is_contiguous()
        assert offset + count <= self.size
        if not count:
            return
        view, done = memory(data), 0
        try:
            while done < count:
                done += os.pwrite(self._descriptor, view[done:], offset + done)
        except OSError as error:
            raise refusal(error, self.directory, count - done) from error

    def mapped(self) -> torch.Tensor:
        """All reserved bytes, shape (size,) uint8: the file itself, not a copy.

        A tensor taken from it stays valid when the file grows and after ``close``: it holds its mapping.
        """
        self._refuse_closed()
        if self._bytes is None:
            if not self.size:
                return torch.empty(0, dtype=torch.uint8)
            self._map = mmap.mmap(self._descriptor, self.size)
            self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        return self._bytes

    def release(self) -> None:
        """Let go of the resident pages of the mapping: they come back from the file when they are read."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def evict(self) -> None:
        """Write everything to the disk and let go of the page cache too, as far as the kernel agrees."""
        self._refuse_closed()
        self.release()
        os.fsync(self._descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        """Give the file up; the disk space is free when the last tensor of it is gone."""
        self._map = self._bytes = None
        self._closing()

    def _refuse_closed(self) -> None:
        if self.closed:
            raise InputError("the cache is closed", hint="use it within its `with` block")


def memory(data: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor in host memory, for as long as the tensor is there."""
    count = data.numel() * data.element_size()
    return memoryview((ctypes.c_char * count).from_address(data.data_ptr())).cast("B")


def in_memory(directory: Path) -> bool:
    """Whether files in ``directory`` lie in RAM (tmpfs, ramfs), so that mapping them saves none.

    Looks the directory up in ``/proc/mounts``; false where there is no such file.
    """
    try:
        lines = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    place = directory.resolve()
    kinds = {Path(fields[1]): fields[2] for line in lines if len(fields := line.split()) > 2}
    return next((kinds[at] for at in (place, *place.parents) if at in kinds), "") in ("tmpfs", "ramfs")


def _unnamed(directory: Path) -> int:
    """A new file without a name, open for reading and writing."""
    if not directory.is_dir():
        raise FileAccessError(
            f"{directory} is no directory",
            expected="a directory on a disk with room for the cache",
        )
    try:
        if hasattr(os, "O_TMPFILE"):
            with suppress(OSError):
                return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        descriptor, name = tempfile.mkstemp(prefix="memplan-kv-", dir=directory)
        os.unlink(name)
    except OSError as error:
        raise refusal(error, directory, 0) from error
    return descriptor


def _allocate(descriptor: int, start: int, count: int) -> None:
    """Have the file system set ``count`` bytes aside from ``start``; they read as zeros."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, count)
        return
    zeros = bytes(min(count, _BLOCK))
    written = 0
    while written < count:
        written += os.pwrite(descriptor, zeros[: count - written], start + written)


def refusal(error: OSError, directory: Path, wanted: int) -> FileAccessError:
    """What went wrong, in words that say what to do."""
    if error.errno in _FULL:
        free = _free(directory)
        left = "" if free is None else f", {free.rounded()} are free"
        reason = {
            errno.EDQUOT: "the quota is used up",
            errno.EFBIG: "files may not be so large here",
        }.get(error.errno or 0, "the disk is full")
        more = Bytes(wanted).rounded() if wanted else "some"
        return FileAccessError(
            f"{directory}: {reason}: the cache needs {more} more{left}",
            hint="another directory, 8 or 4 bits a number, or a shorter context; nothing cached is lost",
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return FileAccessError(
            f"{directory} cannot be written to: {error.strerror}",
            hint="name a directory on a disk that can be written to",
        )
    return FileAccessError(f"{directory}: {error.strerror}")


def _free(directory: Path) -> Bytes | None:
    try:
        found = os.statvfs(directory)
    except (OSError, AttributeError):
        return None
    return Bytes(found.f_bavail * found.f_frsize)
