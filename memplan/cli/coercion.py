"""Text of the command line into values, without pydantic.

Recent typer hands every value to a pydantic adapter, given or not. Importing pydantic and building an
adapter per option takes about as much CPU time as reading a config and simulating a training step, and
all that options here hold is text, paths, flags, choices, whole numbers and lists of text. So those are
converted here. Where typer has no such adapters this does nothing, and typer's own conversion is used.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from typer.core import TyperCommand, TyperGroup

_SLOT = "_runtime_param"


class _PlainParameters:
    """Gives every parameter, ``--help`` included, a plain conversion before typer builds its own."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            _make_plain(parameter)
        return parameters


class PlainCommand(_PlainParameters, TyperCommand):
    """A command whose values are converted here."""


class PlainGroup(_PlainParameters, TyperGroup):
    """A group of commands whose own values are converted here."""


def _make_plain(parameter: Any) -> None:
    descriptor = getattr(parameter, "type_descriptor", None)
    kind = getattr(descriptor, "annotation", None)
    item = get_args(kind)[0] if get_origin(kind) is list else kind
    if isinstance(item, type) and issubclass(item, str | Path | int) and hasattr(parameter, _SLOT):
        least = getattr(getattr(descriptor, "parameter_info", None), "min", None)
        setattr(parameter, _SLOT, PlainValue(item, least))


class PlainValue:
    """Converts a parameter's text to one kind of value: text, a path, a choice, a flag or a whole number.

    ``least`` is the smallest number that is taken.
    """

    def __init__(self, kind: type, least: int | None = None) -> None:
        self.kind = kind
        self.least = least

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value of a parameter, or of each of its occurrences; None where it was not given.

        Raises:
            BadParameter: the text is none of the choices, or no number, or one that is too small.
        """
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if isinstance(value, list | tuple):
            return [self._one(item, param, ctx) for item in value]
        return self._one(value, param, ctx)

    def _one(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            found: Any = value if isinstance(value, self.kind) else self.kind(value)
        except ValueError:
            raise typer.BadParameter(f"{value!r} is not {self._expected()}", ctx=ctx, param=param) from None
        if self.least is not None and found < self.least:
            raise typer.BadParameter(f"{value} is less than {self.least}", ctx=ctx, param=param)
        return found

    def _expected(self) -> str:
        if issubclass(self.kind, StrEnum):
            return f"one of {', '.join(map(str, self.kind))}"
        return "a whole number" if self.kind is int else f"a {self.kind.__name__}"
