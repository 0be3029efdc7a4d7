"""Values of a declared model: whole numbers, or what the settings of its mechanism are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches

from memplan.dialects.fields import Value
from memplan.domain.architecture import DeclaredModel
from memplan.domain.setting import Scalar, Setting

Reader = Callable[[Value], Scalar]
"""Reads one value, or complains at its text."""


def mechanism(value: Value) -> str:
    """The name of a mechanism.

    Raises:
        FieldError: there is none of that name.
    """
    from memplan import programs

    return value.choice(programs.names())


def reader(name: str, mechanism: str | None) -> Reader:
    """How the value of a name is read: as the mechanism's setting if it has one, else as a whole number."""
    if mechanism is not None:
        from memplan import programs

        for setting in programs.find(mechanism).SETTINGS:
            if setting.name == name:
                return _of_setting(setting)
    return Value.whole


def reader_of(model: object, name: str) -> Reader:
    """The same for a model that was read."""
    return reader(name, model.mechanism if isinstance(model, DeclaredModel) else None)


def completed(
    mechanism: str | None, values: Mapping[str, Scalar], fail: Callable[[str, str], Exception]
) -> dict[str, Scalar]:
    """The values with the defaults of settings that nobody gave.

    ``fail`` makes the error of a name and what is wrong with it.
    """
    if mechanism is None:
        return dict(values)
    from memplan import programs

    program = programs.find(mechanism)
    missing = {setting.name: setting.default for setting in program.SETTINGS if setting.name not in values}
    for name, default in missing.items():
        if default is None:
            raise fail(name, f"is not given, and the mechanism {mechanism} needs it")
    given = {**values, **{name: default for name, default in missing.items() if default is not None}}
    # In one order, whatever the file's: a setting that is written later has its place already.
    found = {setting.name: given.pop(setting.name) for setting in program.SETTINGS} | given
    problem = program.problem(found)
    if problem is not None:
        raise fail(*problem)
    return found


def check_known(mechanism: str, values: Value, sizing: Collection[str | int]) -> None:
    """Every value is a setting of the mechanism, or among the ``sizing`` sides of declared tensors.

    Raises:
        FieldError: one is neither, as a misspelt setting is.
    """
    from memplan import programs

    known = [setting.name for setting in programs.find(mechanism).SETTINGS]
    for name, value in values.entries().items():
        if name not in known and name not in sizing:
            close = get_close_matches(name, known, n=1)
            raise value.fail(
                f"is no setting of {mechanism}, and no tensor has a side of that name",
                expected=", ".join(known),
                hint=f"did you mean {close[0]}?" if close else None,
            )


def _of_setting(setting: Setting) -> Reader:
    def read(value: Value) -> Scalar:
        if setting.choices:
            return value.choice(setting.choices)
        if isinstance(setting.default, bool):
            return value.flag()
        return value.whole(setting.least, setting.most)

    return read
