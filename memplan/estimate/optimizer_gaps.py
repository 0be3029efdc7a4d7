"""What of optimizers is not simulated: those without a model, and what a trainer makes of others."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Gap
from memplan.domain.workload import Workload
from memplan.simulator.optimizer import SIMULATED

_SMALLER_THAN_ADAMW = (
    "8bit",
    "4bit",
    "lion",
    "adafactor",
    "muon",
    "sgd",
    "paged",
    "came",
    "rmsprop",
    "adagrad",
)

_WIDE_SINCE = (4, 52)
_EMBEDDINGS = "embed_tokens"


def optimizer_gaps(workload: Workload, shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """An optimizer that is counted as AdamW, or whose states may be wider than counted."""
    name = workload.optimizer.name
    if name not in SIMULATED:
        states = sizes["optimizer_state"]
        smaller = any(part in name for part in _SMALLER_THAN_ADAMW)
        yield Gap(
            reason=f"optimizer {name} is not simulated: counted as AdamW",
            low=Bytes(states),
            high=Bytes(0 if smaller else states),
        )
    elif name.endswith("8bit") and not name.startswith("paged"):
        yield from _wide_embeddings(workload, shape)


def _wide_embeddings(workload: Workload, shape: Architecture) -> Iterator[Gap]:
    """transformers' Trainer has 8-bit optimizers keep 32-bit states of embeddings, since 4.52.

    Source: ``create_optimizer`` in transformers src/transformers/trainer.py (``register_module_override``).
    """
    framework, adapter = workload.framework, workload.adapter
    if framework.code != "transformers" or framework.transformers_before(*_WIDE_SINCE):
        return
    embedded = sum(group.parameters for group in shape.groups if group.component == "embeddings")
    if adapter is not None:
        embedded = shape.vocab_size * shape.hidden_size if _EMBEDDINGS in adapter.modules_to_save else 0
    if embedded and workload.world.sharding == "none":
        wider = (Dtype.FP32.itemsize - Dtype.UINT8.itemsize) * (1 if "lion" in workload.optimizer.name else 2)
        reason = "transformers' Trainer keeps 32-bit states of embeddings, which other loops do not"
        yield Gap(reason=reason, high=Bytes(wider * embedded))
