"""A drawing as PNG, painted with Pillow at a multiple of its size and shrunk, so that edges are smooth."""

from __future__ import annotations

from importlib.util import find_spec
from io import BytesIO
from typing import Any

from memplan.domain.errors import InputError
from memplan.reporters.pictures.shapes import Area, Box, Dot, Drawing, Line, Place, Shape, Text

SCALE, FINER = 2, 2
"""Pixels per drawn pixel in the file, and painted pixels per pixel of the file."""

_MANY = SCALE * FINER


def check() -> None:
    """See that Pillow is there.

    Raises:
        InputError: it is not.
    """
    if find_spec("PIL") is None:
        raise InputError(
            "a PNG needs Pillow, which is not installed", hint="pip install 'memplan[plot]', or write .svg"
        )


def render(drawing: Drawing) -> bytes:
    """The file's bytes.

    Raises:
        InputError: Pillow is not installed.
    """
    check()
    from PIL import Image

    size = (round(drawing.width) * _MANY, round(drawing.height) * _MANY)
    sheet = Image.new("RGB", size, "#ffffff")
    brush = _Brush(sheet)
    for shape in drawing.shapes:
        brush.paint(shape)
    file = BytesIO()
    final = sheet.resize((size[0] // FINER, size[1] // FINER), Image.Resampling.LANCZOS)
    final.save(file, format="PNG")
    return file.getvalue()


class _Brush:
    def __init__(self, sheet: Any) -> None:
        from PIL import ImageDraw

        self.sheet = sheet
        self.draw = ImageDraw.Draw(sheet, "RGBA")

    def paint(self, shape: Shape) -> None:
        """Put one shape on the sheet."""
        match shape:
            case Box():
                corner = (shape.left, shape.top, shape.left + shape.width, shape.top + shape.height)
                edges = [value * _MANY for value in corner]
                self.draw.rounded_rectangle(edges, radius=3 * _MANY, fill=shape.fill)
            case Line():
                self._line(shape)
            case Area():
                opacity = f"{round(shape.opacity * 255):02x}"
                self.draw.polygon(_enlarged(shape.places), fill=shape.fill + opacity)
            case Dot():
                for radius, fill in ((shape.radius + 0.75, "#ffffff"), (shape.radius - 0.75, shape.fill)):
                    (over, down), wide = shape.centre, radius
                    around = (over - wide, down - wide, over + wide, down + wide)
                    self.draw.ellipse([value * _MANY for value in around], fill=fill)
            case Text():
                self._words(shape)

    def _line(self, line: Line) -> None:
        width = round(line.width * _MANY)
        if line.dash is None:
            self.draw.line(_enlarged(line.places), fill=line.colour, width=width, joint="curve")
            return
        (left, down), (right, _) = line.places[0], line.places[-1]
        stroke, gap = line.dash
        while left < right:
            piece = ((left, down), (min(left + stroke, right), down))
            self.draw.line(_enlarged(piece), fill=line.colour, width=width)
            left += stroke + gap

    def _words(self, text: Text) -> None:
        from PIL import Image, ImageDraw, ImageFont

        font: Any = ImageFont.load_default(text.size * _MANY)
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[text.anchor]
        bold = {"stroke_width": round(0.25 * _MANY), "stroke_fill": text.colour} if text.bold else {}
        halo = {"stroke_width": round(1.5 * _MANY), "stroke_fill": text.halo} if text.halo else {}
        at = (text.place[0] * _MANY, text.place[1] * _MANY)
        if not text.turned:
            self.draw.text(at, text.words, fill=text.colour, font=font, anchor=anchor, **(bold or halo))
            return
        long, high = round(font.getlength(text.words)) + 4, round(text.size * _MANY * 1.5)
        strip = Image.new("L", (long, high), 0)
        ImageDraw.Draw(strip).text((long / 2, high * 0.7), text.words, fill=255, font=font, anchor="ms")
        strip = strip.rotate(90, expand=True)
        place = (round(at[0] - high * 0.7), round(at[1] - long / 2))
        self.sheet.paste(text.colour, place, strip)


def _enlarged(places: tuple[Place, ...]) -> list[tuple[float, float]]:
    return [(over * _MANY, down * _MANY) for over, down in places]
