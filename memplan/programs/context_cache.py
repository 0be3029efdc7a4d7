"""``layer`` of the library without numbers: rows in memory or a file, what writing and reading them makes."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from memplan.domain.dtype import Dtype
from memplan.simulator.tensor import Tape, Tensor

MEMORY, MAPPED = "memory", "mapped"
BITS = {"fp32": 32, "bf16": 16, "int8": 8, "int4": 4}
"""What a number takes in the cache."""

GROUP = 64
PAGE = 4096
ALIGNMENT = 16
ENCODED_AT_ONCE = 2**22
"""Those of ``quantized``, ``growing``, ``rows`` and ``layer`` of the library."""

NUMBER = Dtype.FP32


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A token of one layer: keys and values of H heads of width D, ``stored`` as a key of ``BITS``."""

    heads: int
    head_dim: int
    stored: str

    @property
    def scales(self) -> int:
        """fp32 numbers beside the codes of a head: one for each group of 8-bit codes, two of 4-bit codes."""
        bits = BITS[self.stored]
        if bits > Dtype.BF16.itemsize * 8 - 1:
            return 0
        return self.head_dim // gcd(GROUP, self.head_dim) * (1 if bits == 8 else 2)

    @property
    def bytes(self) -> int:
        """Bytes in the cache."""
        each = self.head_dim * BITS[self.stored] // 8 + self.scales * NUMBER.itemsize
        return -(-2 * self.heads * each // ALIGNMENT) * ALIGNMENT

    def of(self, tokens: int) -> int:
        """Bytes of a layer with so many tokens, in whole pages."""
        return -(-tokens * self.bytes // PAGE) * PAGE


class Layer:
    """One layer: ``chunks`` counts those that are cached, of which one is read like the other.

    In memory all tokens have their place from the start.
    """

    def __init__(self, tape: Tape, row: Row, *, tokens: int, cache: str) -> None:
        self.tape = tape
        self.row = row
        self.chunks = 0
        self.rows: Tensor | None = None
        if cache == MEMORY:
            component, tape.component = tape.component, "kv_cache"
            self.rows = tape.empty((row.of(tokens),), Dtype.UINT8, "rows")
            tape.component = component

    def append(self, keys: Tensor) -> None:
        """``MappedLayer.append`` of keys (1, H, T, D) and as many values: rows, some megabytes at a time."""
        tape, row = self.tape, self.row
        tokens = keys.shape[2]
        # ``key.to(stored), value.to(stored)``: nothing is made of what is fp32 already.
        half = [tape.empty(keys.shape, Dtype.BF16, "to") for _ in "kv"] if row.stored == "bf16" else []
        part = min(tokens, max(1, ENCODED_AT_ONCE // row.bytes))
        for count in {part, (tokens - 1) % part + 1}:
            encoded = tape.empty((count, row.bytes), Dtype.UINT8, "zeros")
            if row.scales:
                for _ in "kv":
                    self._quantize(count)
            del encoded
        del half
        self.chunks = min(self.chunks + 1, 2)

    def read(self, tokens: int) -> list[Tensor]:
        """``MappedLayer.chunks`` and ``to`` fp32: views of the rows, or new keys and values."""
        row, tape = self.row, self.tape
        if row.stored == "fp32":
            return []
        shape = (1, row.heads, tokens, row.head_dim)
        if row.stored == "int4":
            found = []
            for _ in "kv":
                found.append(self._from_nibbles(tokens))
            return found
        return [tape.empty(shape, NUMBER, "to") for _ in "kv"]

    def _quantize(self, tokens: int) -> None:
        """``quantize`` of ``tokens`` of keys or of values."""
        row, tape = self.row, self.tape
        shape = (tokens, row.heads, row.head_dim)
        few = (tokens, row.heads, max(1, row.head_dim // gcd(GROUP, row.head_dim)))
        self._finite(shape)
        if row.stored == "int8":
            wide = tape.empty(shape, NUMBER, "abs")
            largest = tape.empty(few, NUMBER, "amax")
            del wide
            scales = tape.empty(few, NUMBER, "div")
            del largest
            codes = self._codes(shape, few, steps=("div", "round"))
            del codes, scales
            return
        high, low = self._halved(few, "amax"), self._halved(few, "amin")
        difference = tape.empty(few, NUMBER, "sub")
        scales = tape.empty(few, NUMBER, "div")
        del difference
        middle = tape.empty(few, NUMBER, "add")
        codes = self._codes(shape, few, steps=("sub", "div", "add", "round"))
        nibbles = (tokens, row.heads, row.head_dim // 2)
        shifted = tape.empty(nibbles, Dtype.UINT8, "lshift")
        packed = tape.empty(nibbles, Dtype.UINT8, "or")
        del shifted
        both = tape.empty((*few[:2], 2 * few[2]), NUMBER, "cat")
        del high, low, scales, middle, codes, packed, both

    def _finite(self, shape: tuple[int, ...]) -> None:
        """``torch.isfinite``: the sizes of all, two comparisons, and both of them."""
        tape = self.tape
        sizes = tape.empty(shape, NUMBER, "abs")
        first, second = tape.empty(shape, Dtype.BOOL, "ne"), tape.empty(shape, Dtype.BOOL, "eq")
        both = tape.empty(shape, Dtype.BOOL, "mul")
        del sizes, first, second, both

    def _halved(self, shape: tuple[int, ...], op: str) -> Tensor:
        whole = self.tape.empty(shape, NUMBER, op)
        half = self.tape.empty(shape, NUMBER, "div")
        del whole
        return half

    def _codes(self, shape: tuple[int, ...], few: tuple[int, ...], steps: tuple[str, ...]) -> Tensor:
        """Every step makes a tensor of the one before; scales of zero are replaced, in a tensor too."""
        tape = self.tape
        last: Tensor | None = None
        for step in steps:
            nonzero = self._nonzero(few) if step == "div" else None
            made = tape.empty(shape, NUMBER, step)
            last = made
            del made, nonzero
        codes = tape.empty(shape, Dtype.UINT8, "to")
        del last
        return codes

    def _nonzero(self, few: tuple[int, ...]) -> Tensor:
        tape = self.tape
        zero, ones = tape.empty(few, Dtype.BOOL, "eq"), tape.empty(few, NUMBER, "ones_like")
        found = tape.empty(few, NUMBER, "where")
        del zero, ones
        return found

    def _from_nibbles(self, tokens: int) -> Tensor:
        """``dequantize`` of 4-bit codes: both halves of each byte side by side, then numbers."""
        row, tape = self.row, self.tape
        half = (1, row.heads, tokens, row.head_dim // 2)
        low, high = tape.empty(half, Dtype.UINT8, "and"), tape.empty(half, Dtype.UINT8, "rshift")
        pairs = tape.empty((*half, 2), Dtype.UINT8, "stack")
        del low, high
        numbers = tape.empty((*half[:3], row.head_dim), NUMBER, "to")
        del pairs
        return numbers
