"""A pool of tensors that are made once and written into again and again, with ``out=``.

PyTorch resizes a tensor given as ``out=`` when the result has another shape, which is the allocation that
a buffer is there to avoid; and backward must not need what the next call overwrites. So shapes and types are
fixed when the pool is made, buffers are lent to one borrower at a time, none is lent while gradients are
recorded, and every one is looked at when it comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from threading import Lock

import torch

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferShape:
    """The sides of a buffer, all positive, and its element type.

    Raises:
        FieldError: there is no side, or one is not a positive whole number.
    """

    sides: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        if not self.sides or any(isinstance(side, bool) or side < 1 for side in self.sides):
            raise FieldError(
                f"a buffer cannot have the sides {self.sides}",
                expected="positive whole numbers, at least one",
            )

    @property
    def bytes(self) -> Bytes:
        """Bytes of the buffer."""
        return Bytes(prod(self.sides) * self.dtype.itemsize)

    def __str__(self) -> str:
        return _said(self.sides, self.dtype)


def _said(sides: Sequence[int], dtype: torch.dtype) -> str:
    return f"{'×'.join(map(str, sides)) or 'one'} {str(dtype).removeprefix('torch.')}"


class Lent:
    """Buffers in use: ``lent[name]`` is the tensor, ``lent.rows(name, n)`` its first ``n`` rows."""

    def __init__(self, shapes: Mapping[str, BufferShape], tensors: Mapping[str, torch.Tensor]) -> None:
        self._shapes = shapes
        self._tensors = tensors
        self._open = True

    def __getitem__(self, name: str) -> torch.Tensor:
        """The buffer of a name; what is in it is what was written last.

        Raises:
            FieldError: the pool has no buffer of that name.
            InputError: the buffers were given back.
        """
        if not self._open:
            raise InputError(
                f"the buffer {name!r} was given back", hint="copy what outlives the block: buffer.clone()"
            )
        if name not in self._tensors:
            close = get_close_matches(name, self._tensors, n=1)
            raise FieldError(
                f"there is no buffer {name!r}",
                expected=", ".join(self._tensors),
                hint=f"did you mean {close[0]!r}?" if close else None,
            )
        return self._tensors[name]

    def rows(self, name: str, count: int) -> torch.Tensor:
        """The first ``count`` rows of a buffer, for a batch smaller than what it was made for.

        Raises:
            FieldError: as ``lent[name]``, or the buffer has fewer rows, or ``count`` is not positive.
        """
        whole = self[name]
        if not 1 <= count <= whole.shape[0]:
            raise FieldError(
                f"{count} rows do not go into the buffer {name!r}, {self._shapes[name]}",
                expected=f"1 to {whole.shape[0]}",
            )
        return whole[:count]

    def put(self, name: str, value: torch.Tensor) -> torch.Tensor:
        """Copy a tensor into a buffer, and return the buffer.

        Raises:
            FieldError: as ``lent[name]``, or shape, type or device are not the buffer's: what PyTorch would
                broadcast, cast or move is refused, since it is seldom what was meant.
        """
        buffer = self[name]
        if value.shape != buffer.shape or value.dtype != buffer.dtype or value.device != buffer.device:
            raise FieldError(
                f"{_said(value.shape, value.dtype)} on {value.device} does not go into the buffer {name!r}",
                expected=f"{self._shapes[name]} on {buffer.device}",
            )
        return buffer.copy_(value)

    def close(self) -> None:
        """No buffer is to be had from here on."""
        self._open = False


class Buffers:
    """A pool of buffers, made once; ``shapes`` says what each is called and how large it is.

    Args:
        shapes: by name.
        device: where they lie.

    Raises:
        FieldError: there is none.
    """

    def __init__(self, shapes: Mapping[str, BufferShape], *, device: torch.device | str = "cpu") -> None:
        if not shapes:
            raise FieldError("a pool without buffers", expected="at least one name with its shape")
        self.shapes = dict(shapes)
        self._lock = Lock()
        # Made under inference mode they could not be written to outside it.
        with torch.inference_mode(mode=False), torch.no_grad():
            self._tensors = {
                name: torch.empty(shape.sides, dtype=shape.dtype, device=device)
                for name, shape in self.shapes.items()
            }
        self._places = {name: tensor.data_ptr() for name, tensor in self._tensors.items()}

    @property
    def bytes(self) -> Bytes:
        """Bytes of all buffers."""
        return Bytes(sum(shape.bytes for shape in self.shapes.values()))

    @contextmanager
    def lent(self) -> Iterator[Lent]:
        """The buffers, to one borrower until the block ends; what is in them stays there.

        Raises:
            InputError: they are lent already (by a call within a call, or to another thread), gradients
                are being recorded, or, when the block ends, an op has given a buffer another shape or place.
        """
        if torch.is_grad_enabled():
            raise InputError(
                "gradients cannot be taken through buffers: the next call overwrites what backward needs",
                hint="lend them under torch.no_grad(), or let a pass that is trained allocate",
            )
        if not self._lock.acquire(blocking=False):
            raise InputError(
                "the buffers are in use", hint="make a pool for each loop and each thread that runs at once"
            )
        lent = Lent(self.shapes, self._tensors)
        try:
            yield lent
        except BaseException:
            self._mended()
            raise
        else:
            self._look()
        finally:
            lent.close()
            self._lock.release()

    def _look(self) -> None:
        """Raise if a buffer is not what it was."""
        for name, found in self._mended():
            raise InputError(
                f"the buffer {name!r}, {self.shapes[name]}, was given the shape {found} by an op",
                hint="out= resizes what does not fit: make the pool for the shapes it is used with",
            )

    def _mended(self) -> list[tuple[str, tuple[int, ...]]]:
        """Give the next borrower what the pool promises; what was not, with the shape it had."""
        changed = []
        for name, tensor in self._tensors.items():
            shape = self.shapes[name]
            if tuple(tensor.shape) != shape.sides or tensor.data_ptr() != self._places[name]:
                changed.append((name, tuple(tensor.shape)))
                tensor.resize_(shape.sides)
                self._places[name] = tensor.data_ptr()
        return changed
