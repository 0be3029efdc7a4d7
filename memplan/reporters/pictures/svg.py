"""A drawing as SVG: plain elements, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from memplan.reporters.pictures.shapes import Area, Box, Dot, Drawing, Line, Place, Shape, Text

FACE = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

Attributes = dict[str, str | float]


def render(drawing: Drawing) -> str:
    """One ``<svg>`` element, as wide as drawn and free to scale."""
    width, height = _number(drawing.width), _number(drawing.height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" font-family="{FACE}">'
    )
    sheet = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    lines = [head, f"<title>{_clean(drawing.title)}</title>", sheet, *map(_element, drawing.shapes), "</svg>"]
    return "\n".join(lines) + "\n"


def _element(shape: Shape) -> str:
    match shape:
        case Box():
            return _tag("rect", dict(_edges(shape)), _hover(shape.title))
        case Line():
            return _tag("polyline", dict(_stroke(shape)))
        case Area():
            outline: Attributes = {"points": _points(shape.places), "fill": shape.fill}
            return _tag("polygon", outline | {"fill-opacity": shape.opacity})
        case Dot():
            over, down = shape.centre
            circle: Attributes = {"cx": over, "cy": down, "r": shape.radius, "fill": shape.fill}
            return _tag("circle", circle | {"stroke": "#ffffff", "stroke-width": 1.5}, _hover(shape.title))
        case Text():
            return _tag("text", dict(_letters(shape)), _clean(shape.words))


def _edges(box: Box) -> Iterator[tuple[str, str | float]]:
    yield "x", box.left
    yield "y", box.top
    yield "width", box.width
    yield "height", box.height
    yield "rx", 3.0
    yield "fill", box.fill


def _stroke(line: Line) -> Iterator[tuple[str, str | float]]:
    yield "points", _points(line.places)
    yield "fill", "none"
    yield "stroke", line.colour
    yield "stroke-width", line.width
    yield "stroke-linejoin", "round"
    if line.dash is not None:
        yield "stroke-dasharray", " ".join(map(_number, line.dash))


def _letters(text: Text) -> Iterator[tuple[str, str | float]]:
    over, down = text.place
    yield "x", over
    yield "y", down
    yield "font-size", text.size
    yield "fill", text.colour
    yield "text-anchor", text.anchor
    if text.bold:
        yield "font-weight", "600"
    if text.turned:
        yield "transform", f"rotate(-90 {_number(over)} {_number(down)})"
    if text.halo is not None:
        yield "stroke", text.halo
        yield "stroke-width", 3.0
        yield "paint-order", "stroke"
        yield "pointer-events", "none"


def _tag(name: str, attributes: Attributes, inside: str = "") -> str:
    written = "".join(
        f" {key}={quoteattr(value if isinstance(value, str) else _number(value))}"
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{inside}</{name}>" if inside else f"<{name}{written}/>"


def _hover(words: str) -> str:
    return f"<title>{_clean(words)}</title>" if words else ""


def _points(places: Sequence[Place]) -> str:
    return " ".join(f"{_number(over)},{_number(down)}" for over, down in places)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _clean(words: str) -> str:
    """Text without characters that XML does not allow."""
    return escape("".join(sign if sign.isprintable() or sign == "\n" else " " for sign in words))
