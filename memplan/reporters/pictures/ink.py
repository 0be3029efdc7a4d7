"""Colours and the room that words take."""

from __future__ import annotations

SHEET, TEXT, FAINT, GRID = "#ffffff", "#1f2937", "#6b7280", "#e5e7eb"
CURVE = "#2563eb"
GPUS = ("#d6336c", "#e8590c", "#2b8a3e", "#7048e8", "#0b7285", "#5c4813")
"""One per GPU, told apart also where red and green look alike."""

_LOW, _HIGH = (239, 246, 255), (30, 64, 130)
_HALF = 0.55
"""Share of the scale from which words on it are white."""


def shade(share: float) -> str:
    """The colour of a cell, pale for 0 and dark for 1."""
    mixed = (round(low + (high - low) * share) for low, high in zip(_LOW, _HIGH, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def on_shade(share: float) -> str:
    """The colour of words on a cell of that shade."""
    return "#ffffff" if share > _HALF else TEXT


def breadth(words: str, size: float) -> float:
    """Pixels that words take at about, in a sans-serif face."""
    return sum(0.30 if sign in " .,:;'|il!()[]" else 0.58 for sign in words) * size
