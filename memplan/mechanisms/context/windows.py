"""A long sequence as windows that overlap: where each begins and ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.domain.errors import FieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Tokens ``start`` to ``stop`` (exclusive) of a sequence, new to all windows before from ``fresh`` on."""

    start: int
    stop: int
    fresh: int

    @property
    def tokens(self) -> slice:
        """The window as an index of the axis of tokens."""
        return slice(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Windows of ``width`` tokens, ``stride`` apart, over a sequence of ``length``.

    The last window is moved back so that it ends with the sequence and is as wide as the others; a short
    tail would give the last tokens less to look back on than all before them.

    Args:
        length: tokens of the sequence.
        width: tokens of a window, at most ``length``.
        stride: tokens from the start of a window to that of the next, at most ``width``: beyond it there
            would be tokens in no window. None puts window beside window.

    Raises:
        FieldError: a number is not a whole positive one, the window is wider than the sequence, or the
            stride is beyond the window.
    """

    length: int
    width: int
    stride: int | None = None

    def __post_init__(self) -> None:
        for name in ("length", "width", "stride"):
            value = getattr(self, name)
            if value is not None:
                _require_count(name, value)
        if self.width > self.length:
            raise FieldError(
                f"windows of {self.width:,} tokens over a sequence of {self.length:,}",
                expected=f"a width of at most {self.length}",
                hint="without windows the sequence goes through in one piece",
            )
        if self.step > self.width:
            raise FieldError(
                f"a stride of {self.step:,} tokens leaves {self.step - self.width:,} between windows of"
                f" {self.width:,}",
                expected=f"a stride of at most {self.width}",
            )

    @property
    def step(self) -> int:
        """Tokens between the starts of two windows; the last step may be shorter."""
        return self.width if self.stride is None else self.stride

    @property
    def overlap(self) -> int:
        """Tokens that a window has in common with the next; the last two may have more."""
        return self.width - self.step

    def __len__(self) -> int:
        return 1 + -(-(self.length - self.width) // self.step)

    def __iter__(self) -> Iterator[Window]:
        covered = 0
        for number in range(len(self)):
            start = min(number * self.step, self.length - self.width)
            yield Window(start=start, stop=start + self.width, fresh=covered)
            covered = start + self.width

    @property
    def processed(self) -> int:
        """Tokens that go through the model, those of overlaps as often as they do."""
        return len(self) * self.width


def _require_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FieldError(f"windows: {name} is {value!r}", expected="a whole number from 1 up")
