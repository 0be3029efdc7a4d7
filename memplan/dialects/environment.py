"""Settings that belong to the environment a run is started in, where its config has no key for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from memplan.dialects.reading import FieldChange, Reading
from memplan.dialects.writing import planned
from memplan.domain.allocator import VARIABLE
from memplan.domain.edit import Advice

_SECTION = "allocator"


def exported(reading: Reading, changes: Sequence[FieldChange], advised: Iterable[Advice]) -> list[Advice]:
    """The advice, that of the allocator's options told as the line to export, with all of them."""
    options = planned(reading.workload, changes).allocator.text
    line = f"export {VARIABLE}={options} where the run is started (PyTorch ignores it on Windows)"
    return [
        replace(item, message=line, path=None, line=None, outside=True)
        if item.field.partition(".")[0] == _SECTION
        else item
        for item in advised
    ]
