"""What a user's own model takes: asked for by name, and by the shapes of its inputs."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError
from memplan.domain.finding import Finding
from memplan.domain.trace import Phase

DTYPES = (
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
)
"""Types of elements that an input can have, as PyTorch calls them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One input: its name (empty if it is given by position), its sides, and its element type."""

    name: str
    sides: tuple[int, ...]
    dtype: str = "float32"

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read ``input_ids=1x128:int64`` or ``1x3x224x224``.

        Raises:
            FieldError: it is neither, a side is not a positive whole number, or the type is not known.
        """
        name, equals, rest = text.rpartition("=")
        sides, colon, dtype = rest.partition(":")
        expected = "such as input_ids=1x128:int64 or 1x3x224x224"
        if (equals and not name.isidentifier()) or not all(_is_side(side) for side in sides.split("x")):
            raise FieldError(f"--shape {text!r} is no shape", expected=expected)
        if colon and dtype not in DTYPES:
            raise FieldError(f"--shape {text!r}: {dtype!r} is no element type", expected=", ".join(DTYPES))
        return cls(name=name, sides=tuple(map(int, sides.split("x"))), dtype=dtype or "float32")


def _is_side(text: str) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocations:
    """How many there were in a phase, and how large together, whatever was freed in between."""

    phase: Phase
    count: int
    bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """One forward and backward pass of a model. ``count`` is its number of parameters, ``parameters`` to
    ``gradients`` are bytes that stay; ``saved`` are those of activations that backward needs, parameters and
    inputs not among them; ``phases`` holds the most that tensors took at once in each phase; ``findings`` say
    what is made anew in loops.
    """

    count: int
    parameters: Bytes
    buffers: Bytes
    gradients: Bytes
    saved: Bytes
    phases: tuple[tuple[Phase, Bytes], ...]
    allocations: tuple[Allocations, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def peak(self) -> Bytes:
        """The highest of all phases."""
        return max(size for _, size in self.phases)
