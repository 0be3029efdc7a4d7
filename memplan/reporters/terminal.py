"""Reports for a terminal: coloured tables on a screen, plain aligned text everywhere else.

A pipe, a file, ``NO_COLOR`` and ``TERM=dumb`` get text without a single escape sequence or
box-drawing character, so that it can be searched, compared and pasted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

from memplan.reporters.blocks import (
    Block,
    Bullets,
    Heading,
    Paragraph,
    Picture,
    Report,
    Table,
    Tone,
    Verbatim,
)

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

NAME = "terminal"

_STYLES = {Tone.PLAIN: "bold", Tone.GOOD: "bold green", Tone.BAD: "bold red", Tone.CAUTION: "yellow"}
_INKS = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.BAD: "red", Tone.CAUTION: "yellow"}


def render(report: Report, stream: TextIO | None = None) -> str:
    """The report for a stream as it is now, standard output by default."""
    return rich(report) if decorated(stream) else plain(report)


def decorated(stream: TextIO | None = None) -> bool:
    """Whether a stream (standard output) is a terminal whose user did not ask for plain text."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return (stream or sys.stdout).isatty()


def plain(report: Report) -> str:
    """Aligned text, parts separated by an empty line."""
    return "\n\n".join(_text(block) for block in report) + "\n"


def rich(report: Report) -> str:
    """The same with colours and rules, as wide as the terminal."""
    from io import StringIO
    from shutil import get_terminal_size

    from rich.console import Console

    console = Console(
        file=StringIO(), force_terminal=True, width=get_terminal_size().columns, highlight=False
    )
    with console.capture() as captured:
        for position, block in enumerate(report):
            _show(console, block, apart=position > 0)
    return captured.get()


def _text(block: Block) -> str:
    match block:
        case Table():
            lines = [block.columns, *block.rows] if any(block.columns) else list(block.rows)
            return "\n".join(("  " + "  ".join(block.padded(line))).rstrip() for line in lines)
        case Bullets():
            return "\n".join(
                [*([block.title] if block.title else []), *(f"  {item}" for item in block.items)]
            )
        case _:
            return block.text.rstrip("\n")


def _show(console: Console, block: Block, *, apart: bool) -> None:
    from rich.text import Text

    if apart:
        console.print()
    match block:
        case Heading():
            console.print(Text(block.text, style=_STYLES[block.tone]))
        case Paragraph():
            console.print(Text(block.text, style="" if block.tone is Tone.PLAIN else _STYLES[block.tone]))
        case Bullets():
            if block.title:
                console.print(Text(block.title, style=_STYLES[block.tone]))
            for item in block.items:
                console.print(Text(f"  {item}"))
        case Verbatim() | Picture():
            console.print(_drawn(block), soft_wrap=True)
        case Table():
            console.print(_table(block))


def _drawn(block: Verbatim | Picture) -> RenderableType:
    from rich.text import Text

    if isinstance(block, Verbatim):
        return Text(block.text.rstrip("\n"))
    lines = (Text.assemble(*((run, _INKS[tone]) for run, tone in line)) for line in block.lines)
    return Text("\n").join(lines)


def _table(block: Table) -> RenderableType:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable(box=box.SIMPLE_HEAD, show_header=any(block.columns), pad_edge=False)
    for column, align in zip(block.columns, block.align, strict=True):
        table.add_column(Text(column), justify="right" if align == ">" else "left", no_wrap=align == ">")
    for number, row in enumerate(block.rows):
        style = "bold" if number in block.strong else None
        table.add_row(*(Text(cell) for cell in row), style=style)
    return table
