"""How every typer application here is set up: plain help, plain errors."""

from __future__ import annotations

from typing import Any

import typer


def application(*, completion: bool = False, **settings: Any) -> typer.Typer:
    """A typer application that never loads rich: help and usage errors are plain text."""
    return typer.Typer(
        add_completion=completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )
