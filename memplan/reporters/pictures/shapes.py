"""A drawing before it has a form: shapes in the order they are painted, in pixels from the upper left."""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[float, float]
"""Across and down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A filled rectangle; ``title`` shows when a pointer rests on it."""

    left: float
    top: float
    width: float
    height: float
    fill: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line through places; ``dash`` has the lengths of strokes and gaps."""

    places: tuple[Place, ...]
    colour: str
    width: float = 1.0
    dash: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A filled outline, seen through as far as ``opacity`` says."""

    places: tuple[Place, ...]
    fill: str
    opacity: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A filled circle with a white rim."""

    centre: Place
    radius: float
    fill: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Words at a place: their start, middle or end on the base line; ``turned`` reads upwards."""

    place: Place
    words: str
    size: float = 12.0
    colour: str = "#374151"
    anchor: str = "middle"
    bold: bool = False
    turned: bool = False
    halo: str | None = None


Shape = Box | Line | Area | Dot | Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Shapes on a white sheet, and what they show in one sentence."""

    width: float
    height: float
    title: str
    shapes: tuple[Shape, ...]
