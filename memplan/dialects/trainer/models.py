"""The model that a file of the Trainer's family names, or the command line in its stead."""

from __future__ import annotations

from pathlib import Path

from memplan.dialects import models
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Intake, Origin
from memplan.domain.architecture import Architecture


def named(keys: Keys, names: tuple[str, ...], folder: Path, intake: Intake) -> Architecture:
    """The architecture of ``--model`` if that is given, or else of the model the first of some keys names.

    Raises:
        FieldError: neither names one.
        UnknownNameError, FileAccessError: the model is neither known nor a local directory.
    """
    if intake.given.model is not None:
        from memplan.dialects import assumed

        keys.origins["model"] = Origin(how="written", note="given by --model")
        return assumed.named(intake.given.model, intake)
    name = keys.get(*names)
    if name is None:
        raise keys.root.fail(
            f"{names[0]} is missing",
            expected=f"{names[0]}: a hub id or a local directory",
            hint="give --model ID|DIR",
        )
    keys.note("model", name)
    return models.of_name(name, intake, folder)
