"""Real training steps of models that are no decoders: their classes, and batches of their kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memplan.domain.workload import Workload
from tests.oracle.cpu_step import DTYPES, Batches, prepared, second_step_of
from tests.oracle.libraries import library

torch = library("torch")
transformers = library("transformers")


def built(config: Mapping[str, Any], dtype: Any = torch.float32) -> Any:
    """The class that ``architectures`` names, for a ``config.json``."""
    settings = {key: value for key, value in config.items() if key != "model_type"}
    shape = transformers.AutoConfig.for_model(config["model_type"], **settings)
    kind = getattr(transformers, config["architectures"][0])
    return kind._from_config(shape, dtype=dtype, attn_implementation="eager")


def _sequences(workload: Workload) -> dict[str, Any]:
    """Token ids, and one label for each sequence."""
    size = (workload.batch.micro, workload.sequence.length)
    ids = torch.zeros(size, dtype=torch.int64)
    return {"input_ids": ids, "labels": torch.zeros(size[:1], dtype=torch.int64)}


BATCHES: dict[str, Batches] = {"BertForSequenceClassification": _sequences}


def second_step(config: Mapping[str, Any], workload: Workload) -> list[int]:
    """Allocations (positive) and frees (negative) of the second optimizer step, in bytes, in order."""
    torch.manual_seed(0)
    trained = prepared(built(config, DTYPES[workload.precision.params]), workload, task=None)
    batch = BATCHES.get(config["architectures"][0])
    return second_step_of(trained, workload, batch) if batch else second_step_of(trained, workload)
