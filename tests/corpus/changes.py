"""Other values for every field of a workload that some dialect may have a key for."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from memplan.dialects.schema import leaves
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Checkpointing, Evaluation, Loss, Workload

Changes = dict[str, Any]

_DTYPES = (Dtype.BF16, Dtype.FP16, Dtype.FP32)
_WORDS = {
    "optimizer.name": ("adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd", "adam"),
    "optimizer.implementation": ("fused", "foreach", "for_loop"),
    "world.sharding": ("none", "zero1", "zero2", "zero3", "fsdp2"),
}
_WHOLE: dict[str, tuple[Any, ...]] = {
    "checkpointing": (Checkpointing(), Checkpointing(every=1), Checkpointing(every=3)),
    "loss": (
        Loss(),
        Loss(kind="fused_linear"),
        Loss(kind="cut_cross_entropy"),
        Loss(kind="chunked", chunks=8),
    ),
    "evaluation": (Evaluation(batch=3),),
}


def proposals(workload: Workload) -> Iterator[tuple[str, Changes]]:
    """Fields by name with changes of one of them each; the batch keeps its product where it can."""
    yield "batch", _batch(workload.batch.micro, workload.batch.accumulation)
    for name in sorted({leaf.field for leaf in leaves().values()}):
        if name.startswith(("batch.", "framework.", "generate.", "task")):
            continue
        try:
            before = workload.at(name)
        except AttributeError:
            continue
        others = _targets(workload) if name == "adapter.targets" else _others(name, before)
        for after in others:
            if after != before:
                yield name, {name: after}


def _batch(micro: int, accumulation: int) -> Changes:
    for divisor in (2, 3, 5):
        if micro % divisor == 0:
            return {"batch.micro": micro // divisor, "batch.accumulation": accumulation * divisor}
        if accumulation % divisor == 0:
            return {"batch.micro": micro * divisor, "batch.accumulation": accumulation // divisor}
    return {"batch.micro": 2 * micro}


def _targets(workload: Workload) -> tuple[tuple[str, ...], ...]:
    """One linear layer of the model's, or all."""
    linears = workload.model.linears if isinstance(workload.model, Architecture) else ()
    return (linears[:1], linears) if linears else ()


def _others(name: str, before: Any) -> tuple[Any, ...]:
    if name in _WHOLE:
        return _WHOLE[name]
    if name in _WORDS:
        return _WORDS[name]
    if isinstance(before, bool):
        return (not before,)
    if isinstance(before, int):
        return (2 * before or 3,)
    if isinstance(before, float):
        return (0.25,)
    if isinstance(before, Dtype) or name in ("precision.autocast", "world.param_dtype"):
        return _DTYPES
    if isinstance(before, StrEnum):
        return tuple(type(before))
    return ()
