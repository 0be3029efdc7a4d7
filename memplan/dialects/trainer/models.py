"""The model that a file of the Trainer's family names, or the command line in its stead."""

from __future__ import annotations

from pathlib import Path

from memplan.dialects import models
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Intake, Origin
from memplan.domain.architecture import Architecture
from memplan.domain.errors import FileAccessError, UnknownNameError

_HINT = "give --model ID|DIR"


def named(keys: Keys, names: tuple[str, ...], folder: Path, intake: Intake) -> Architecture:
    """The architecture of the model that a key names; ``--model`` stands in where none is there.

    Raises:
        FieldError: nobody names one.
        UnknownNameError, FileAccessError: the model is neither known nor a local directory.
    """
    name, given = keys.get(*names), intake.given.model
    if name is None and given is None:
        raise keys.root.fail(
            f"{names[0]} is missing",
            expected=f"{names[0]}: a hub id or a local directory",
            hint=_HINT,
        )
    try:
        if name is not None:
            keys.note("model", name)
            return models.of_name(name, intake, folder)
    except (FileAccessError, UnknownNameError) as error:
        if given is None:
            error.hint = error.hint or _HINT
            raise
    from memplan.dialects import assumed

    assert given is not None
    keys.origins["model"] = Origin(how="written", note=assumed.BY_OPTION)
    return assumed.named(given, intake)
