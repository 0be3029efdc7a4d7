"""An axis of a picture: where numbers lie on it, and which are written beside."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log2, log10

MOST_LINES = 8
"""Steps of a scale, at the most."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Where numbers lie between two pixels, and which are written beside."""

    low: float
    high: float
    start: float
    end: float
    doubling: bool
    ticks: tuple[float, ...]

    def at(self, number: float) -> float:
        """The pixel of a number."""
        value = log2(number) if self.doubling else number
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def scale(numbers: list[float], start: float, end: float, *, doubling: bool, binary: bool) -> Scale:
    """A scale for numbers between two pixels: in powers of two, or from 0 in steps (``binary``: of bytes)."""
    if doubling:
        low, high = floor(log2(min(numbers))), ceil(log2(max(numbers)))
        high = max(high, low + 1)
        step = ceil((high - low) / MOST_LINES)
        high = low + ceil((high - low) / step) * step
        ticks = tuple(2.0**power for power in range(low, high + 1, step))
        return Scale(low, high, start, end, doubling, ticks)
    step_size = _even(max(numbers), binary=binary)
    count = max(1, ceil(max(numbers) / step_size))
    return Scale(
        0.0, count * step_size, start, end, doubling, tuple(number * step_size for number in range(count + 1))
    )


def _even(most: float, *, binary: bool) -> float:
    """A round step that divides the scale into at most eight: 1, 2 or 5 times a power of ten, or of two."""
    if most <= 0:
        return 1.0
    if binary:
        return 2.0 ** ceil(log2(most / MOST_LINES))
    power = 10.0 ** floor(log10(most / MOST_LINES))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power * MOST_LINES >= most)
