"""The first page of a kept cache file: what the file is, and by what to tell that it is whole.

All numbers are in the byte order of the machine that wrote them: to another one the version looks unknown.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from memplan.domain.errors import DocumentError, FieldError, UnrecognisedError
from memplan.mechanisms.context.rows import DTYPES, Row

MAGIC: Final = b"MPLANKV\0"
VERSION: Final = 1
SIZE: Final = 4096
"""Bytes of the header: a page, so that the rows after it begin at one."""

_FORM: Final = struct.Struct("=8sI16s10QI")
"""Magic, version, identity, ten counts, and the checksum of the rows; its own checksum follows."""

_CHECK: Final = struct.Struct("=I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Which layer of which cache a file holds; ``checksum`` is the CRC-32 of its ``tokens`` rows.

    ``identity`` is the same in all files of one cache and in no others.
    """

    row: Row
    layer: int
    layers: int
    tokens: int
    identity: bytes
    checksum: int

    def pack(self) -> bytes:
        """The page."""
        row = self.row
        counts = (
            self.layer,
            self.layers,
            self.tokens,
            row.batch,
            row.heads,
            row.key_dim,
            row.value_dim,
            DTYPES.index(row.dtype),
            row.bits,
            row.group,
        )
        plain = _FORM.pack(MAGIC, VERSION, self.identity, *counts, self.checksum)
        return (plain + _CHECK.pack(zlib.crc32(plain))).ljust(SIZE, b"\0")

    @classmethod
    def unpack(cls, page: bytes, path: Path) -> Header:
        """Read the page of the file at ``path``.

        Raises:
            UnrecognisedError: it is no cache file, or one of a version or machine that is not known.
            DocumentError: it is damaged, or cut off.
        """
        if page[: len(MAGIC)] != MAGIC:
            raise UnrecognisedError(
                f"{path} is no cache of keys and values", expected="a file that was saved"
            )
        if len(page) < SIZE:
            raise DocumentError(f"{path} is cut off within its header")
        plain = page[: _FORM.size]
        (found,) = _CHECK.unpack_from(page, _FORM.size)
        _, version, identity, *counts, checksum = _FORM.unpack(plain)
        if version != VERSION:
            raise UnrecognisedError(f"{path} is a cache of version {version}", expected=f"version {VERSION}")
        if found != zlib.crc32(plain) or page[_FORM.size + _CHECK.size :].strip(b"\0"):
            raise DocumentError(f"{path} is damaged: the checksum of its header does not match")
        layer, layers, tokens, batch, heads, key_dim, value_dim, dtype, bits, group = counts
        try:
            row = Row(
                batch=batch,
                heads=heads,
                key_dim=key_dim,
                value_dim=value_dim,
                dtype=DTYPES[dtype],
                bits=bits,
                group=group,
            )
        except (IndexError, FieldError) as error:
            raise DocumentError(f"{path} is damaged: it describes no keys and values") from error
        return cls(row=row, layer=layer, layers=layers, tokens=tokens, identity=identity, checksum=checksum)
