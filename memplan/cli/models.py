"""``memplan models``."""

from __future__ import annotations

from typing import Annotated

import typer

from memplan.cli.application import application
from memplan.cli.coercion import PlainCommand
from memplan.cli.options import Format, FormatOption
from memplan.cli.output import emit, emit_report

app = application()


EPILOG = """\b
Examples:
  memplan models llama-3          known models whose id holds that text
  memplan models "qwen2.5 7b"     ... or all of several words, in any order
  memplan models                  all of them
\b
Exit codes: 0; 2 no known id holds the text.
"""

Text = Annotated[str | None, typer.Argument(metavar="[TEXT]", help="A part of the id; case does not count.")]


@app.command(cls=PlainCommand, epilog=EPILOG)
def models(text: Text = None, form: FormatOption = Format.TERMINAL) -> None:
    """List the hub models that need no network: parameters, layers, context."""
    from memplan.families import known
    from memplan.profiles.search import search
    from memplan.reporters.views.models import payload, report

    found = search(text or "")
    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(payload(found, known())))
    else:
        emit_report(report(found, known()), form)
