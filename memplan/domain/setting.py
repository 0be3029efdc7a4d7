"""What can be set of a mechanism: a number, a word or a switch, with what it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Scalar = int | str
"""A number or a word; a switch is a bool, which is an int."""

Settings = Mapping[str, Scalar]
"""Every setting of a mechanism by name."""

CUDA, CPU = "cuda", "cpu"
"""Where a mechanism runs, as torch names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting; without a ``default`` it has to be given.

    It is one of ``choices`` if there are any, true or false if the default is, and else a whole number from
    ``least`` to ``most``.
    """

    name: str
    summary: str
    default: Scalar | None = None
    least: int = 1
    most: int = 2**40
    choices: tuple[str, ...] = ()


def device(default: str) -> Setting:
    """Where a mechanism runs: every program has this setting."""
    return Setting(name="device", summary="where its tensors are", default=default, choices=(CUDA, CPU))


def whole(values: Settings, name: str) -> int:
    """The number that a setting has."""
    found = values[name]
    assert isinstance(found, int)
    return found


def word(values: Settings, name: str) -> str:
    """The word that a setting has."""
    found = values[name]
    assert isinstance(found, str)
    return found
