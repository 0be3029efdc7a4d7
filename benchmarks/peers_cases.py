"""Measured rows in the forms estimators take: memplan's YAML, a ``config.json``, a hub cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks import truth_rows
from benchmarks.truth_comparison import ALLOCATED, Comparison
from benchmarks.truth_rows import Row
from memplan import profiles
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Task, Workload

PROCESS = "process (reserved + cuda_context)"
"""What the T4 rows give for the whole process."""

_COMMIT = "0" * 40
"""The commit under which a config stands in a hub cache; any name does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A measured row, what it ran as a workload, and the config of its model."""

    row: Row
    label: str
    workload: Workload
    config: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model's hub id."""
        name = str(self.row["model"])
        return truth_rows.MODELS.get(name, name)

    @property
    def gpu(self) -> str:
        """memplan's name of the GPU."""
        return next(gpu for name, gpu in truth_rows.GPUS.items() if self.row["gpu"].startswith(name))

    @property
    def parameters(self) -> int:
        """How many weights the model has."""
        assert isinstance(self.workload.model, Architecture)
        return self.workload.model.parameters

    @property
    def compute(self) -> Dtype:
        """The dtype of matrix products."""
        precision = self.workload.precision
        return precision.autocast or precision.params

    @property
    def generates(self) -> bool:
        """Whether the row is one of generation."""
        return self.workload.task is Task.GENERATE

    @property
    def mixed(self) -> bool:
        """Whether fp32 parameters run under autocast, which is what estimators call mixed precision."""
        return self.workload.precision.autocast is not None

    def measured(self, metric: str) -> int | None:
        """Bytes of a metric; None where the row does not have it."""
        return next((entry["bytes"] for entry in self.row["measured"] if entry["metric"] == metric), None)


def of(compared: Comparison) -> Case:
    """The case of a compared row."""
    row = compared.row
    assert any(entry["metric"] == ALLOCATED for entry in row["measured"])
    return Case(
        row=row, label=compared.label, workload=truth_rows.workload(row), config=_with_head_dim(_config(row))
    )


def write_native(case: Case, folder: Path) -> Path:
    """The case as memplan's own YAML (of which JSON is a part)."""
    path = folder / f"{case.row['id']}.yaml"
    path.write_text(json.dumps(_native(case), indent=1), encoding="utf-8")
    return path


def write_config(case: Case, folder: Path) -> Path:
    """The model's ``config.json`` in a folder of its own."""
    path = folder / case.model.replace("/", "--") / "config.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(case.config)), encoding="utf-8")
    return path


def write_hub_cache(case: Case, folder: Path) -> Path:
    """A ``HF_HOME`` in which the hub's client finds the model's ``config.json`` without a network.

    Source: "Understand caching" of huggingface_hub's documentation.
    """
    home = folder / "hub-home"
    model = home / "hub" / f"models--{case.model.replace('/', '--')}"
    (model / "refs").mkdir(parents=True, exist_ok=True)
    (model / "refs" / "main").write_text(_COMMIT, encoding="utf-8")
    snapshot = model / "snapshots" / _COMMIT
    snapshot.mkdir(parents=True, exist_ok=True)
    (snapshot / "config.json").write_text(json.dumps(dict(case.config)), encoding="utf-8")
    return home


def _config(row: Row) -> Mapping[str, Any]:
    declared = row.get("model_config") or {}
    if "model_type" in declared:
        return dict(declared)
    profile = profiles.model(truth_rows.MODELS.get(str(row["model"]), str(row["model"])))
    assert profile is not None, row["model"]
    return profile.config


def _with_head_dim(config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"head_dim": config["hidden_size"] // config["num_attention_heads"]} | dict(config)


def _native(case: Case) -> dict[str, Any]:
    workload = case.workload
    written: dict[str, Any] = {
        "memplan": 1,
        "model": {"config": dict(case.config)},
        "precision": {"params": workload.precision.params.label},
        "batch": {"micro": workload.batch.micro, "accumulation": workload.batch.accumulation},
        "sequence": {"length": workload.sequence.length},
        "optimizer": {"name": workload.optimizer.name, "set_to_none": workload.optimizer.set_to_none},
        "attention": str(workload.attention),
        "checkpointing": workload.checkpointing.name,
        "framework": {
            "torch": workload.framework.torch,
            "transformers": workload.framework.transformers,
        },
        "loop": {"outputs": str(workload.outputs)},
    }
    if workload.precision.autocast:
        written["precision"]["autocast"] = workload.precision.autocast.label
    if case.generates:
        generate = workload.generate
        written |= {
            "task": "generate",
            "generate": {item.name: getattr(generate, item.name) for item in fields(generate)},
        }
    for name in ("adapter", "quantization"):
        part = getattr(workload, name)
        if part is not None:
            written[name] = {
                item.name: _plain(getattr(part, item.name))
                for item in fields(part)
                if getattr(part, item.name) != item.default
            }
    return written


def _plain(value: Any) -> Any:
    if isinstance(value, Dtype):
        return value.label
    return list(value) if isinstance(value, tuple) else value
