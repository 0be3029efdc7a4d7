"""``memplan smoke --model FILE.py:NAME --shape …``: a user's own model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memplan.cli.options import Format
from memplan.cli.output import emit, emit_report

_SUFFIX = ".py"


def asked(model: str) -> bool:
    """Whether a model of the user's own is meant, and none that is known by its name or directory."""
    return model.rpartition(":")[0].endswith(_SUFFIX)


def run(
    model: str,
    shapes: Sequence[str],
    *,
    device: str,
    cap: str | None,
    patience: float | None,
    form: Format,
) -> None:
    """Trace it and print what it takes.

    Raises:
        InputError: an option makes no sense, or the user's code failed.
    """
    from memplan.cli.target import amount
    from memplan.domain.errors import InputError
    from memplan.domain.own_model import Shape
    from memplan.reporters.views.own_model import payload, report
    from memplan.smoke import own

    if device not in ("fake", "cpu"):
        raise InputError(f"a model of your own does not run on --device {device}", expected="fake or cpu")
    file, _, name = model.rpartition(":")
    found = own.trace(
        Path(file),
        name,
        tuple(map(Shape.parse, shapes)),
        fake=device == "fake",
        memory=None if cap is None else amount(cap, "--cap"),
        patience=own.PATIENCE if patience is None else patience,
    )
    if form is Format.JSON:
        from memplan.reporters import json

        emit(json.render(payload(model, device, found)))
    else:
        emit_report(report(model, device, found), form)
