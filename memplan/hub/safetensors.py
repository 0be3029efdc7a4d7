"""Headers of safetensors files: names, dtypes and shapes of tensors, without a byte of the tensors.

A file begins with the length of its header in 8 bytes (little endian), then comes the header in JSON
(safetensors ``tensor.rs``: ``read_metadata``, which refuses headers above 100 MB). A model in several files
has an index that says which tensor is where.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from memplan.domain.errors import DocumentError, FileAccessError
from memplan.domain.published import Published
from memplan.hub.packing import Tensor, summary

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000
MOST_FILES = 2000
MOST_SIDES = 16
"""No model's tensor has more dimensions, and their product stays a number of ordinary length."""

ITEM_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits of an element (safetensors ``Dtype::bitsize``)."""


def of_folder(folder: Path) -> Published | None:
    """What a folder's safetensors files hold; None where it has none, or not all that its index names.

    Raises:
        DocumentError: a file or the index is not what its name says.
        FileAccessError: one cannot be read.
    """
    if (folder / SINGLE).is_file():
        names = [SINGLE]
    elif (folder / INDEX).is_file():
        names = _listed(folder / INDEX)
    else:
        return None
    if not all((folder / name).is_file() for name in names):
        return None
    tensors = [tensor for name in names for tensor in of_file(folder / name)]
    return summary(tensors, files=len(names))


def of_file(path: Path) -> list[Tensor]:
    """The tensors that one file's header lists.

    Raises:
        DocumentError: it is no safetensors file, or shorter than its header says.
        FileAccessError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= LONGEST_HEADER:
                raise DocumentError(f"{path} is not a safetensors file: its header would be {length} bytes")
            header = file.read(length)
            whole = 8 + length + _data_length(path, header)
            if path.stat().st_size < whole:
                raise DocumentError(
                    f"{path} is cut short: its header tells of {whole} bytes",
                    hint="download the file again",
                )
    except OSError as error:
        raise FileAccessError(f"cannot read {path}: {error.strerror or error}") from None
    return tensors(_entries(path, header), str(path))


def tensors(header: Mapping[str, Any], name: str) -> list[Tensor]:
    """A header's entries as tensors.

    Raises:
        DocumentError: an entry has no dtype or shape that safetensors knows.
    """
    found = []
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, Mapping) else None
        bits = ITEM_BITS.get(str(entry.get("dtype"))) if isinstance(entry, Mapping) else None
        if bits is None or not _is_shape(shape):
            raise DocumentError(f"{name} is not a safetensors file: {key!r} has no dtype and shape")
        found.append(Tensor.of(key, entry["dtype"], tuple(shape), bits))
    return found


def _entries(path: Path, header: bytes) -> Mapping[str, Any]:
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError):
        entries = None
    if not isinstance(entries, dict):
        raise DocumentError(f"{path} is not a safetensors file: its header is not a JSON object")
    return entries


def _data_length(path: Path, header: bytes) -> int:
    offsets = [
        entry["data_offsets"][1]
        for key, entry in _entries(path, header).items()
        if key != "__metadata__" and isinstance(entry, dict) and _is_pair(entry.get("data_offsets"))
    ]
    return max(offsets, default=0)


def _listed(index: Path) -> list[str]:
    try:
        weights = json.loads(index.read_bytes()).get("weight_map")
    except OSError as error:
        raise FileAccessError(f"cannot read {index}: {error.strerror or error}") from None
    except (ValueError, AttributeError, RecursionError):
        weights = None
    names = sorted(set(map(str, weights.values()))) if isinstance(weights, dict) else []
    if not names or len(names) > MOST_FILES or any("/" in name or "\\" in name for name in names):
        raise DocumentError(f"{index} is not an index of safetensors files: it has no weight_map")
    return names


def _is_shape(shape: object) -> TypeGuard[list[int]]:
    return isinstance(shape, list) and len(shape) <= MOST_SIDES and all(_is_side(side) for side in shape)


def _is_side(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and 0 <= side < 2**53


def _is_pair(offsets: object) -> bool:
    return isinstance(offsets, list) and len(offsets) == 2 and all(_is_side(offset) for offset in offsets)
