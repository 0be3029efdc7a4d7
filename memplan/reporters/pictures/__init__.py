"""Sweeps as files: pictures (SVG, PNG, HTML) and tables (CSV).

A picture is drawn once as shapes (``chart`` for one value, ``heatmap`` for two), and then given a form.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from memplan.domain.errors import FieldError, FileAccessError
from memplan.reporters.pictures.shapes import Drawing
from memplan.sweep.grid import Axis, Sweep

FORMS = (".svg", ".png", ".html", ".csv")


def check(out: Path, axes: Sequence[Axis]) -> None:
    """See that a file of that name can be written, before anything is worked out.

    Raises:
        FieldError: its name ends in no known form, or the form cannot show so many axes.
        InputError: a library is missing.
    """
    form = out.suffix.lower()
    if form not in FORMS:
        raise FieldError(f"--out {out}: no form of picture or table ends so", expected=", ".join(FORMS))
    if form != ".csv" and len(axes) > 2:
        raise FieldError(
            f"--out {out}: a picture has two axes, not {len(axes)}", hint=f"write {out.with_suffix('.csv')}"
        )
    if form == ".png":
        from memplan.reporters.pictures import png

        png.check()


def write(out: Path, source: str, sweep: Sweep) -> None:
    """Draw a sweep of ``source`` into a file, in the form its name ends in. The file is replaced whole.

    Raises:
        FieldError: no combination could be estimated, so there is nothing to draw.
        FileAccessError: the file cannot be written.
    """
    data = _rendered(out.suffix.lower(), source, sweep)
    beside = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        os.replace(beside, out)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise FileAccessError(f"{out} cannot be written: {error.strerror}") from None


def drawn(source: str, sweep: Sweep) -> Drawing:
    """The shapes of a sweep over one axis or two.

    Raises:
        FieldError: no combination could be estimated.
    """
    from memplan.reporters.pictures import chart, curves, heatmap, measured

    if not any(point.estimates for point in sweep.points):
        reason = next((point.refused for point in sweep.points if point.refused), "")
        raise FieldError(f"nothing to draw, every combination is refused: {reason}")
    title = f"{source}: memory over {' and '.join(axis.name for axis in sweep.axes)}"
    if sweep.runs:
        return curves.draw(measured.figure(sweep, title))
    return heatmap.draw(sweep, title) if len(sweep.axes) == 2 else chart.draw(sweep, title)


def _rendered(form: str, source: str, sweep: Sweep) -> bytes:
    from memplan.reporters.pictures import html, png, svg
    from memplan.reporters.views import sweep as view
    from memplan.reporters.views import sweep_data

    if form == ".csv":
        return sweep_data.table(sweep).encode()
    drawing = drawn(source, sweep)
    if form == ".png":
        return png.render(drawing)
    if form == ".svg":
        return svg.render(drawing).encode()
    tables = view.crossed(sweep) if len(sweep.axes) == 2 and not sweep.runs else (view.listed(sweep),)
    return html.render(drawing, tables, sweep.notes).encode()
