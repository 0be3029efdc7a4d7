"""A bank in a file: written at once or not at all, and read only if every byte is as it was written.

The file is PyTorch's own format, read with ``weights_only``: it cannot run code. It holds the slots in use,
their sizes, and the SHA-256 of the tensors.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from memplan.domain.errors import FieldError, FileAccessError, InputError
from memplan.mechanisms.episodic.bank import Bank

FORMAT = "memplan.episodic/1"
NAMES = ("keys", "values", "hits", "last_used")


def save(bank: Bank, path: str | os.PathLike[str]) -> None:
    """Write the slots in use; a file that is there already is replaced when the new one is complete.

    Raises:
        FileAccessError: the folder is missing or read-only, or the disk is full. What was there stays.
    """
    target = Path(path)
    tensors = {name: getattr(bank, name)[: bank.size].detach().cpu().clone() for name in NAMES}
    content = {"format": FORMAT, "clock": bank.clock, "tensors": tensors, "sha256": _digest(tensors)}
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
        with os.fdopen(handle, "wb") as stream:
            _save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except (OSError, ValueError) as error:
        # A name with a null byte in it is a ValueError.
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileAccessError(f"{target} cannot be written: {reason.splitlines()[0].lower()}") from None
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary)


class _Disk:
    """A stream that remembers why it could not be written to."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.refusal: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.stream.write(data)
        except OSError as error:
            self.refusal = error
            raise

    def flush(self) -> None:
        self.stream.flush()


def _save(content: dict[str, Any], stream: BinaryIO) -> None:
    """``torch.save``, whose writer turns what the disk says into a RuntimeError about positions."""
    disk = _Disk(stream)
    try:
        torch.save(content, disk)
    except RuntimeError as error:
        raise disk.refusal or OSError(str(error)) from None


def load(bank: Bank, path: str | os.PathLike[str]) -> None:
    """Replace what a bank holds by what a file holds; numbers are cast to the bank's dtype.

    Raises:
        FileAccessError: the file cannot be read.
        InputError: it is no saved memory, or damaged.
        FieldError: its keys or values have another width, or it has more slots than the bank.
        The bank is unchanged in all cases.
    """
    tensors, clock = _checked(Path(path))
    size = len(tensors["hits"])
    for name in ("keys", "values"):
        if tensors[name].shape[1] != getattr(bank, name).shape[1]:
            raise FieldError(
                f"{path} holds {name} of width {tensors[name].shape[1]}",
                expected=f"width {getattr(bank, name).shape[1]}",
            )
    if size > len(bank.hits):
        raise FieldError(
            f"{path} holds {size} slots", expected=f"at most {len(bank.hits)}", hint="prune before saving"
        )
    bank.clear()
    for name in NAMES:
        getattr(bank, name)[:size] = tensors[name]
    bank.size, bank.clock = size, clock


def _checked(path: Path) -> tuple[dict[str, Tensor], int]:
    """The tensors of a file and its clock, once nothing about them is in doubt."""
    content = _content(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is no saved memory", expected=f"a file of the format {FORMAT}")
    tensors, clock = content.get("tensors"), content.get("clock")
    if not isinstance(tensors, dict) or set(tensors) != set(NAMES) or not isinstance(clock, int):
        raise _damaged(path)
    if not _shaped(tensors) or not _counted(tensors, clock) or content.get("sha256") != _digest(tensors):
        raise _damaged(path)
    if not all(bool(torch.isfinite(tensors[name]).all()) for name in ("keys", "values")):
        raise InputError(f"{path} holds NaN or infinity", expected="finite numbers")
    return tensors, clock


def _content(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise FileAccessError(f"{path} cannot be read: {reason}") from None
    except Exception:
        # A file that is not what it says makes the reader fail in ways of every kind.
        raise InputError(
            f"{path} is no saved memory, or damaged", expected=f"a file of the format {FORMAT}"
        ) from None


def _shaped(tensors: dict[str, Any]) -> bool:
    """Whether all are plain tensors of as many rows, of their types."""
    # A view can claim any shape on a few bytes; contiguous ones are as large as they say.
    plain = all(
        isinstance(item, Tensor) and item.layout is torch.strided and item.is_contiguous()
        for item in tensors.values()
    )
    if not plain or any(tensors[name].dim() != 2 for name in ("keys", "values")):
        return False
    counted = all(
        tensors[name].dim() == 1 and tensors[name].dtype is torch.int64 for name in ("hits", "last_used")
    )
    floating = all(tensors[name].is_floating_point() for name in ("keys", "values"))
    return counted and floating and len({len(item) for item in tensors.values()}) == 1


def _counted(tensors: dict[str, Tensor], clock: int) -> bool:
    """Whether every slot was used, and at a time that has been."""
    hits, last_used = tensors["hits"], tensors["last_used"]
    return clock >= 0 and not bool(((hits < 1) | (last_used < 0) | (last_used > clock)).any())


def _digest(tensors: dict[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name in NAMES:
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if size := tensor.numel() * tensor.element_size():
            found.update((ctypes.c_char * size).from_address(tensor.data_ptr()))
    return found.hexdigest()


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} is damaged: it does not hold what was saved", hint="restore it from a backup")
