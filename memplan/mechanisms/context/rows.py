"""How one token of one layer lies in a cache file: a row with its keys, then its values.

Token after token, so that a cache grows at its end and nothing that is there moves. Within a row:
keys (batch, heads, key_dim), values (batch, heads, value_dim), and, if they are quantized, their scales.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import Final

import torch

from memplan.domain.errors import FieldError
from memplan.mechanisms.context.quantized import check, code_bytes, dequantize, quantize, scale_bytes

ALIGNMENT: Final = 16
"""Bytes that a row is a multiple of, so that every element of a mapped tensor lies where its type may lie."""

DTYPES: Final = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Element types of keys and values that can be cached, in the order in which files number them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The shape of a token. ``bits`` 0 stores numbers as they are, 8 and 4 quantize ``group`` at a time.

    Raises:
        FieldError: an empty side, an element type that is not cached, or a width that cannot be quantized so.
    """

    batch: int
    heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    bits: int = 0
    group: int = 0

    def __post_init__(self) -> None:
        if min(self.batch, self.heads, self.key_dim, self.value_dim) < 1:
            raise FieldError(
                f"keys of {self.batch} x {self.heads} x {self.key_dim} numbers a token have an empty side",
                expected="1 or more of each",
            )
        if self.dtype not in DTYPES:
            raise FieldError(
                f"keys and values in {self.dtype} cannot be cached",
                expected=", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES),
            )
        if self.bits:
            check(self.key_dim, self.bits, self.group)
            check(self.value_dim, self.bits, self.group)

    @classmethod
    def of(cls, keys: torch.Tensor, values: torch.Tensor, *, bits: int = 0, group: int = 64) -> Row:
        """The row of keys (batch, heads, tokens, key_dim) and values (batch, heads, tokens, value_dim).

        A ``group`` that divides no head becomes the largest divisor of it that does.

        Raises:
            FieldError: they do not belong together, or see ``Row``.
        """
        if keys.dim() != 4 or keys.shape[:3] != values.shape[:3] or keys.dtype is not values.dtype:
            raise FieldError(
                f"keys {tuple(keys.shape)} {keys.dtype} and values {tuple(values.shape)} {values.dtype}"
                " do not belong together",
                expected="(batch, heads, tokens, width) in one element type",
            )
        batch, heads, _, width = keys.shape
        return cls(
            batch=batch,
            heads=heads,
            key_dim=width,
            value_dim=values.shape[3],
            dtype=keys.dtype,
            bits=bits,
            group=gcd(group, width, values.shape[3]) if bits else 0,
        )

    @property
    def bytes(self) -> int:
        """Bytes of a token in the file."""
        plain = sum(size for _, size in self._parts())
        return -(-plain // ALIGNMENT) * ALIGNMENT

    def encode(self, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Rows (tokens, ``bytes``) uint8 of keys and values (batch, heads, tokens, width).

        Raises:
            FieldError: numbers that are not finite are to be quantized.
        """
        rows = torch.zeros((keys.shape[2], self.bytes), dtype=torch.uint8)
        slots = self._slots(rows)
        for kind, x in (("keys", keys), ("values", values)):
            x = x.permute(2, 0, 1, 3)
            if not self.bits:
                slots[kind].view(self.dtype).unflatten(1, (self.batch, self.heads, -1)).copy_(x)
                continue
            codes, scales = quantize(x, self.bits, self.group)
            slots[kind].unflatten(1, (self.batch, self.heads, -1)).copy_(codes)
            few = slots[f"{kind} scales"].view(torch.float32).unflatten(1, (self.batch, self.heads, -1))
            few.copy_(scales)
            # Or those of keys would be there while those of values are made.
            del codes, scales
        return rows

    def decode(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (batch, heads, tokens, width) of rows (tokens, ``bytes``) uint8.

        Views of the rows where numbers are stored as they are, else new tensors.
        """
        slots = self._slots(rows)
        return self._numbers(slots, "keys"), self._numbers(slots, "values")

    def select(self, rows: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Rows whose batch entry ``i`` is entry ``indices[i]`` of these, byte by byte."""
        other = replace(self, batch=len(indices))
        chosen = torch.zeros((len(rows), other.bytes), dtype=torch.uint8)
        slots = other._slots(chosen)
        for name, slot in self._slots(rows).items():
            slots[name].unflatten(1, (other.batch, -1)).copy_(slot.unflatten(1, (self.batch, -1))[:, indices])
        return chosen

    def _numbers(self, slots: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
        sides = (self.batch, self.heads, -1)
        if not self.bits:
            return slots[kind].view(self.dtype).unflatten(1, sides).permute(1, 2, 0, 3)
        scales = slots[f"{kind} scales"].view(torch.float32).unflatten(1, sides).permute(1, 2, 0, 3)
        codes = slots[kind].unflatten(1, sides).permute(1, 2, 0, 3)
        return dequantize(codes, scales, self.bits, self.group, self.dtype)

    def _slots(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """The columns of every part."""
        found, start = {}, 0
        for name, size in self._parts():
            found[name] = rows[:, start : start + size]
            start += size
        return found

    def _parts(self) -> list[tuple[str, int]]:
        """Name and bytes of what a row is made of. Scales come first: they are the widest elements."""
        each = self.batch * self.heads
        widths = {"keys": self.key_dim, "values": self.value_dim}
        if not self.bits:
            return [(kind, each * width * self.dtype.itemsize) for kind, width in widths.items()]
        scales = [
            (f"{kind} scales", each * scale_bytes(width, self.bits, self.group))
            for kind, width in widths.items()
        ]
        return scales + [(kind, each * code_bytes(width, self.bits)) for kind, width in widths.items()]
