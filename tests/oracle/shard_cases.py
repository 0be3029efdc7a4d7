"""Cases of several GPUs, run for real by processes that talk over gloo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import Optimizer, Precision, Workload, World
from tests.oracle.cases import (
    ALL_LINEAR,
    ATTENTION_ONLY,
    CHECKPOINTED,
    FP32,
    REENTRANT,
    TIED,
    TINY,
    TWICE,
    workload,
)

WIDE = {"vocab_size": 6000}
"""Enough parameters for several buckets of a MiB."""


def _ddp(**settings: Any) -> dict[str, Any]:
    return {"world": World(data_parallel=2, **settings)}


def _fsdp2(count: int = 2, **settings: Any) -> dict[str, Any]:
    return {"world": World(data_parallel=count, sharding="fsdp2", **settings)}


def _fsdp1(count: int = 2, **settings: Any) -> dict[str, Any]:
    return {"world": World(data_parallel=count, sharding="fsdp1", **settings)}


OLDER = {"framework": Framework(transformers="4.51")}
AMP = {"precision": Precision(params=Dtype.BF16, autocast=Dtype.BF16)}
MIXED: dict[str, Any] = {"param_dtype": Dtype.BF16, "reduce_dtype": Dtype.FP32}

SHARDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ddp": ({}, FP32 | _ddp()),
    "ddp buckets": (WIDE, FP32 | _ddp(bucket_cap_mb=1)),
    "ddp bf16 tied": (TIED | WIDE, _ddp()),
    "ddp gradients are views": (WIDE, FP32 | _ddp(gradient_as_bucket_view=True, bucket_cap_mb=1)),
    "ddp gradients are views accumulated": ({}, FP32 | TWICE | _ddp(gradient_as_bucket_view=True)),
    "ddp accumulated": ({}, FP32 | TWICE | _ddp()),
    "ddp lora checkpointed": ({}, FP32 | ATTENTION_ONLY | CHECKPOINTED | _ddp()),
    "fsdp2": ({}, FP32 | _fsdp2()),
    "fsdp2 bf16": ({}, _fsdp2()),
    "fsdp2 tied": (TIED, FP32 | _fsdp2()),
    "fsdp2 mixed": ({}, FP32 | _fsdp2(**MIXED)),
    "fsdp2 not resharded": ({}, FP32 | _fsdp2(reshard_after_forward=False)),
    "fsdp2 checkpointed": ({}, FP32 | CHECKPOINTED | _fsdp2()),
    "fsdp2 accumulated": ({}, FP32 | TWICE | _fsdp2()),
    "fsdp2 accumulated mixed": ({}, FP32 | TWICE | _fsdp2(**MIXED)),
    "fsdp2 accumulated in shards": ({}, FP32 | TWICE | _fsdp2(no_sync=False)),
    "fsdp2 lora": ({}, FP32 | ALL_LINEAR | _fsdp2()),
    "fsdp2 lora checkpointed": ({}, FP32 | ALL_LINEAR | CHECKPOINTED | _fsdp2()),
    "fsdp2 clipped": ({}, FP32 | {"optimizer": Optimizer(clipping=True)} | _fsdp2()),
    "fsdp2 on four, padded": ({"vocab_size": 501}, FP32 | _fsdp2(4)),
}


FLAT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "fsdp1": ({}, FP32 | _fsdp1()),
    "fsdp1 bf16 tied": (TIED, _fsdp1()),
    "fsdp1 one parameter each, padded": ({"vocab_size": 501}, FP32 | _fsdp1(4, use_orig_params=False)),
    "fsdp1 mixed": ({}, FP32 | _fsdp1(**MIXED)),
    "fsdp1 not resharded, clipped": (
        {},
        FP32 | {"optimizer": Optimizer(clipping=True)} | _fsdp1(reshard_after_forward=False),
    ),
    "fsdp1 checkpointed": ({}, FP32 | CHECKPOINTED | _fsdp1()),
    "fsdp1 checkpointed, gathered late": ({}, FP32 | CHECKPOINTED | _fsdp1(backward_prefetch="post")),
    "fsdp1 checkpointed, gathered when needed": ({}, FP32 | CHECKPOINTED | _fsdp1(backward_prefetch="none")),
    "fsdp1 lora reentrant": ({}, FP32 | ALL_LINEAR | REENTRANT | _fsdp1()),
    "fsdp1 reentrant outside": ({}, FP32 | REENTRANT | OLDER | _fsdp1()),
    "fsdp1 lora reentrant outside": ({}, FP32 | ATTENTION_ONLY | REENTRANT | OLDER | _fsdp1()),
    "fsdp1 accumulated mixed": ({}, FP32 | TWICE | _fsdp1(**MIXED)),
    "fsdp1 accumulated in shards": ({}, FP32 | TWICE | _fsdp1(no_sync=False)),
    "fsdp1 lora checkpointed": ({}, FP32 | ALL_LINEAR | CHECKPOINTED | _fsdp1()),
    "fsdp1 lora bf16 accumulated": ({}, ATTENTION_ONLY | TWICE | _fsdp1()),
    "fsdp1 lora mixed checkpointed": (
        {},
        ATTENTION_ONLY | CHECKPOINTED | AMP | _fsdp1(param_dtype=Dtype.BF16),
    ),
    "fsdp1 gathered ahead": ({}, FP32 | CHECKPOINTED | _fsdp1(forward_prefetch=True)),
    "fsdp1 lora gathered ahead": ({}, FP32 | ATTENTION_ONLY | TWICE | _fsdp1(forward_prefetch=True)),
}
"""Cases of FSDP1 on a rank whose collectives exchange nothing: gloo would copy what they do."""


def sharded(config: Mapping[str, Any], settings: Mapping[str, Any]) -> Workload:
    """The workload of a case."""
    return workload(TINY | dict(config), dict(settings))
