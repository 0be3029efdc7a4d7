"""A workload as a config of memplan's own: what a measured row becomes in ``tests/truth``."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from memplan.dialects.native import spelling
from memplan.dialects.schema import SECTIONS, SINGLES
from memplan.domain.workload import Outputs, Task, Workload

_ALWAYS = ("attention", "precision.params", "batch.micro", "framework.torch", "framework.transformers")
"""Written even where they are memplan's defaults, so that a row stays what it is when those change."""

_TRAINING = ("checkpointing", "sequence.length", "optimizer.name", "optimizer.implementation", "loop.outputs")
_GENERATION = tuple(f"generate.{name}" for name in SECTIONS["generate"])
_OF_PARTS = ("kind", "rank", "targets", "dtype", "compute", "batch")

HEADING = "# A published run; what was measured of it stands in measured.yaml beside this file.\n"


def text(workload: Workload, model: dict[str, Any], gpu: str | None) -> str:
    """The whole file. ``model`` is how the model is named: ``{ref: …}`` or ``{config: {…}}``."""
    import yaml

    written: dict[str, Any] = {"memplan": 1} | ({"target": {"gpu": gpu}} if gpu else {}) | {"model": model}
    default = Workload(model=workload.model, outputs=Outputs.KEPT)
    always, never = _wanted(workload)
    for unit in _units():
        value = spelling(unit, workload)
        if unit in always or (value != spelling(unit, default) and unit not in never):
            _put(written, unit, _brief(value, getattr(workload, unit, None)))
    body = yaml.safe_dump(written, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return HEADING + str(body)


def _units() -> tuple[str, ...]:
    return (*SINGLES, *(f"{section}.{name}" for section, leaves in SECTIONS.items() for name in leaves))


def _wanted(workload: Workload) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is always written, and what means nothing here."""
    if workload.task is Task.GENERATE:
        return _ALWAYS + _GENERATION, (*_TRAINING, "optimizer.set_to_none")
    return _ALWAYS + _TRAINING, _GENERATION


def _brief(value: Any, part: Any) -> Any:
    """A part of a workload, such as its adapter, without what is as usual in it."""
    if not is_dataclass(part) or not isinstance(value, dict):
        return value
    usual = {item.name for item in fields(part) if getattr(part, item.name) == item.default}
    return {name: entry for name, entry in value.items() if name in _OF_PARTS or name not in usual}


def _put(written: dict[str, Any], unit: str, value: Any) -> None:
    section, _, name = unit.partition(".")
    if name:
        written.setdefault(section, {})[name] = value
    else:
        written[section] = value
