"""Sizes of safetensors files, to the byte.

Layout (https://huggingface.co/docs/safetensors, "Format"): the length of the header in 8 bytes, the header as
compact JSON, padded with spaces to a multiple of 8, then the tensors' bytes one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from memplan.domain.dtype import Dtype

NAMES = {
    Dtype.FP32: "F32",
    Dtype.BF16: "BF16",
    Dtype.FP16: "F16",
    Dtype.FP64: "F64",
    Dtype.INT64: "I64",
    Dtype.INT32: "I32",
    Dtype.UINT8: "U8",
    Dtype.BOOL: "BOOL",
}
_METADATA = '"__metadata__":{"format":"pt"}'
_LENGTH = 8
_ALIGNMENT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One tensor of a file."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * self.dtype.itemsize


def file_bytes(entries: Iterable[Entry]) -> int:
    """Size in bytes of the file transformers and PEFT write of these tensors, its header included."""
    found = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    return header_bytes(found) + sum(entry.size for entry in found)


def header_bytes(entries: Iterable[Entry]) -> int:
    """Bytes in front of the tensors, which lie in the order given.

    The library puts wider element types first, and names in alphabetical order within each.
    """
    length = len("{}") + len(_METADATA)
    start = 0
    for entry in entries:
        end = start + entry.size
        sides = ",".join(map(str, entry.shape))
        described = f'"dtype":"{NAMES[entry.dtype]}","shape":[{sides}],"data_offsets":[{start},{end}]'
        length += len(f',"{entry.name}":{{{described}}}')
        start = end
    return _LENGTH + -(-length // _ALIGNMENT) * _ALIGNMENT
