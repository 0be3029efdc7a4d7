"""``memplan models``: what is known of models without asking the hub."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from memplan.profiles import ModelProfile
from memplan.reporters.blocks import Paragraph, Report, Table

_UNITS = ((10**12, "T"), (10**9, "B"), (10**6, "M"))


def report(models: Sequence[ModelProfile], simulated: Collection[str]) -> Report:
    """One row per id; models of a type that is not simulated are marked."""
    rows = tuple(
        (
            item.id,
            _amount(item.parameters),
            _number(item.layers),
            _number(item.context),
            item.model_type if item.model_type in simulated else f"{item.model_type} (bounds only)",
        )
        for item in models
    )
    columns = ("model", "parameters", "layers", "context", "type")
    return (
        Table(columns=columns, align="<>>><", rows=rows),
        Paragraph(f"{len(models)} known without a network; others are looked up with --online."),
    )


def payload(models: Sequence[ModelProfile], simulated: Collection[str]) -> dict[str, Any]:
    """``memplan.models/1``: the same for programs, with the source of each entry."""
    return {
        "schema": "memplan.models/1",
        "models": [
            {
                "id": item.id,
                "architecture": item.architecture,
                "model_type": item.model_type,
                "simulated": item.model_type in simulated,
                "parameters": item.parameters,
                "layers": item.layers,
                "context": item.context,
                "source": item.source,
                "date": item.date,
            }
            for item in models
        ],
    }


def _amount(parameters: int) -> str:
    for unit, sign in _UNITS:
        if parameters >= unit:
            return f"{parameters / unit:.2f} {sign}"
    return f"{parameters}"


def _number(found: int | None) -> str:
    return "?" if found is None else f"{found}"
