"""What an episodic memory is made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

from memplan.domain.errors import FieldError

MATMUL, BROADCAST = "matmul", "broadcast"
SIMILARITIES = (MATMUL, BROADCAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The shape of a memory and how it is used.

    Attributes:
        capacity: slots of the bank, M.
        key_size: width of a key, K.
        value_size: width of a value, V; as wide as a key if not given.
        similarity: ``matmul`` normalises both sides and multiplies them; ``broadcast`` calls
            ``cosine_similarity`` on all pairs, which takes three tensors of chunk × M × K numbers.
        write_chunk, read_chunk: queries that are compared with the bank at once; ``None`` for all of them.
        neighbours: slots that a query is answered from, k.
        threshold: cosine similarity from which on a written key counts as known.
        rate: how far a known slot moves towards what is written, in (0, 1].
        temperature: divides similarities before the softmax over the neighbours.
        gradient_safe: writes make a new bank instead of changing it in place, and gradients flow through it.

    Raises:
        FieldError: a size is not positive, or another number is out of its range.
    """

    capacity: int
    key_size: int
    value_size: int | None = None
    similarity: str = MATMUL
    write_chunk: int | None = 8
    read_chunk: int | None = 64
    neighbours: int = 8
    threshold: float = 0.9
    rate: float = 0.5
    temperature: float = 0.1
    gradient_safe: bool = False

    def __post_init__(self) -> None:
        for name in ("capacity", "key_size", "neighbours"):
            _positive(name, getattr(self, name))
        for name in ("value_size", "write_chunk", "read_chunk"):
            if getattr(self, name) is not None:
                _positive(name, getattr(self, name))
        if self.similarity not in SIMILARITIES:
            raise FieldError(
                f"similarity is {self.similarity!r}", expected=f"one of {', '.join(SIMILARITIES)}"
            )
        _within("threshold", self.threshold, lambda it: -1.0 <= it <= 1.0, "a number from -1 to 1")
        _within("rate", self.rate, lambda it: 0.0 < it <= 1.0, "a number above 0, at most 1")
        _within("temperature", self.temperature, lambda it: it > 0.0, "a number above 0")

    @property
    def width(self) -> int:
        """The width of a value, V."""
        return self.key_size if self.value_size is None else self.value_size


def _positive(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise FieldError(f"{name} is {value!r}", expected="a whole number of at least 1")


def _within(name: str, value: object, holds: Callable[[float], bool], expected: str) -> None:
    if isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and holds(value):
        return
    raise FieldError(f"{name} is {value!r}", expected=expected)
