"""A page of its own: the picture, with figures under the pointer, and the table below it."""

from __future__ import annotations

from html import escape

from memplan.reporters.blocks import Table
from memplan.reporters.pictures import svg
from memplan.reporters.pictures.shapes import Drawing

_STYLE = """
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif; color: #1f2937;
       max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: 1.5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #e5e7eb; text-align: left; }
.right { text-align: right; }
p { color: #6b7280; }
"""


def render(drawing: Drawing, tables: tuple[Table, ...], notes: tuple[str, ...]) -> str:
    """One file that loads nothing from elsewhere."""
    body = [svg.render(drawing), *map(_table, tables), *(f"<p>{escape(note)}</p>" for note in notes)]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(drawing.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    rows = "\n".join(_row(table, row, "td") for row in table.rows)
    return (
        f"<table>\n<thead>\n{_row(table, table.columns, 'th')}\n</thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    )


def _row(table: Table, cells: tuple[str, ...], tag: str) -> str:
    sides = {"<": "", ">": ' class="right"'}
    marked = (
        f"<{tag}{sides[align]}>{escape(cell)}</{tag}>" for cell, align in zip(cells, table.align, strict=True)
    )
    return f"<tr>{''.join(marked)}</tr>"
