"""Reports as GitHub-flavoured Markdown, for pull requests and wikis."""

from __future__ import annotations

from memplan.reporters.blocks import Block, Bullets, Heading, Paragraph, Picture, Report, Table

NAME = "markdown"

_SPECIAL = str.maketrans({character: f"\\{character}" for character in "\\`*_[]<>|#"})
_FENCE = "```"


def render(report: Report) -> str:
    """The report as one Markdown text."""
    return "\n\n".join(_text(block) for block in report) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line of a table cell or list item."""
    return " ".join(text.translate(_SPECIAL).split())


def _text(block: Block) -> str:
    match block:
        case Heading():
            return f"### {escaped(block.text)}"
        case Paragraph():
            return "  \n".join(escaped(line) for line in block.text.splitlines())
        case Bullets():
            items = "\n".join(f"- {escaped(item)}" for item in block.items)
            return f"**{escaped(block.title)}**\n\n{items}" if block.title else items
        case Table():
            return _table(block)
        case Picture():
            return _fenced(block.text, "")
        case _:
            return _fenced(block.text, block.language)


def _fenced(text: str, language: str) -> str:
    fence = _FENCE
    while fence in text:
        fence += "`"
    return f"{fence}{language}\n{text.rstrip(chr(10))}\n{fence}"


def _table(block: Table) -> str:
    rules = ["---:" if align == ">" else "---" for align in block.align]
    rows = [_cells(row, bold=number in block.strong) for number, row in enumerate(block.rows)]
    lines = [_cells(block.columns), rules, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: tuple[str, ...], *, bold: bool = False) -> list[str]:
    # Leading spaces show depth in plain text; a table cell would lose them.
    cells = [escaped(cell) for cell in row]
    depths = [len(cell) - len(cell.lstrip(" ")) if cell.strip() else 0 for cell in row]
    marked = [f"**{cell}**" if bold and cell else cell for cell in cells]
    return ["&nbsp;" * depth + cell for cell, depth in zip(marked, depths, strict=True)]
