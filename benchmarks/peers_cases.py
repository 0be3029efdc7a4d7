"""Measured rows in the forms estimators take: a ``config.json``, a hub cache."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import truth_cases
from benchmarks.truth_facts import ALLOCATED
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Task, Workload

_COMMIT = "0" * 40
"""The commit under which a config stands in a hub cache; any name does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A measured row, what it ran as a workload, and the config of its model."""

    row: truth_cases.Case
    workload: Workload
    config: Mapping[str, Any]

    @property
    def label(self) -> str:
        """What ran, for people."""
        return self.row.label

    @property
    def model(self) -> str:
        """The model's hub id."""
        return str(self.row.facts["model"])

    @property
    def gpu(self) -> str:
        """memplan's name of the GPU."""
        return self.row.gpu

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
        return self.row.measured.get(metric)


def of(row: truth_cases.Case) -> Case:
    """The case of a row that measured the peak of one GPU's tensors."""
    assert row.measured[ALLOCATED]
    assert isinstance(row.workload.model, Architecture)
    return Case(row=row, workload=row.workload, config=_with_head_dim(row.workload.model.config))


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


def _with_head_dim(config: Mapping[str, Any]) -> Mapping[str, Any]:
    if "hidden_size" not in config:
        return config
    return {"head_dim": config["hidden_size"] // config["num_attention_heads"]} | dict(config)
