"""The cases of ``deepspeed_cases.py`` as memplan takes them."""

from __future__ import annotations

from math import prod
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Precision,
    Sequence,
    Workload,
    World,
)
from memplan.domain.zero import Place, Zero
from memplan.families import architecture, build
from memplan.simulator.sharding.zero_layout import Layout
from memplan.simulator.tensor import Tape
from tests.oracle.deepspeed_cases import BATCH, CONFIG, LENGTH, RANKS, TARGETS

NAMES = {
    "reduce_bucket_size": "reduce_bucket",
    "overlap_comm": "overlap",
    "reduce_scatter": "reduce_scatter",
    "stage3_prefetch_bucket_size": "prefetch_bucket",
    "stage3_param_persistence_threshold": "persistence",
    "stage3_max_live_parameters": "max_live",
    "stage3_max_reuse_distance": "max_reuse",
    "sub_group_size": "sub_group",
}


def workload(case: dict[str, Any]) -> Workload:
    """A case as a workload of one of two GPUs."""
    config = CONFIG | {"num_hidden_layers": case.get("layers", CONFIG["num_hidden_layers"])}
    given = case["zero"]
    sizes: dict[str, Any] = {NAMES[name]: value for name, value in given.items() if name in NAMES}
    if "offload_optimizer" in given:
        sizes["optimizer"] = Place.CPU
    if "communication" in case:
        sizes["communication"] = Dtype.parse(case["communication"])
    gradients = Dtype.parse(case["gradients"]) if "gradients" in case else None
    return Workload(
        model=architecture(config, lambda _: None),
        precision=Precision(params=Dtype.BF16, gradients=gradients),
        batch=Batch(micro=BATCH, accumulation=case.get("accumulation", 1)),
        sequence=Sequence(length=LENGTH),
        attention=Attention.EAGER,
        checkpointing=Checkpointing(every=int(case.get("checkpointed", False))),
        adapter=Adapter(rank=8, targets=TARGETS, dtype=Dtype.BF16) if case.get("lora") else None,
        world=World(data_parallel=RANKS, sharding=f"zero{given['stage']}", zero=Zero(**sizes)),
    )


def owner(case: dict[str, Any]) -> int:
    """The rank that memplan simulates."""
    run = workload(case)
    assert run.model is not None
    model = build(Tape((8, 0)), run.model, run, Attention.EAGER)  # type: ignore[arg-type]
    sizes = tuple(prod(leaf.shape) for leaf in model.leaves)
    return Layout(sizes, RANKS).heaviest() if run.world.sharding != "zero3" else 0
