"""DeepSpeed's own JSON: the ``zero_optimization`` settings that decide bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.documents.tree import ScalarNode
from memplan.domain.workload import Workload
from memplan.domain.zero import Place, Zero

AUTO: dict[str, Callable[[int], int]] = {
    "reduce_bucket": lambda width: width * width,
    "prefetch_bucket": lambda width: int(0.9 * width * width),
    "persistence": lambda width: 10 * width,
}
"""What the Trainer puts for ``auto``, given the model's width (``trainer_config_finalize`` in transformers
src/transformers/integrations/deepspeed.py)."""

SIZES = {
    "reduce_bucket_size": "reduce_bucket",
    "stage3_prefetch_bucket_size": "prefetch_bucket",
    "stage3_param_persistence_threshold": "persistence",
    "stage3_max_live_parameters": "max_live",
    "stage3_max_reuse_distance": "max_reuse",
    "sub_group_size": "sub_group",
}
FLAGS = {
    "overlap_comm": "overlap",
    "contiguous_gradients": "contiguous",
    "reduce_scatter": "reduce_scatter",
}
PLACES = {"offload_optimizer": "optimizer", "offload_param": "parameters"}
DEVICES = {"none": Place.GPU, "cpu": Place.CPU, "nvme": Place.NVME}
WITHOUT_BYTES = frozenset(
    (
        "stage",
        "allgather_partitions",
        "allgather_bucket_size",
        "stage3_gather_16bit_weights_on_model_save",
        "stage3_gather_fp16_weights_on_model_save",
        "ignore_unused_parameters",
        "load_from_fp32_weights",
        "stage3_model_persistence_threshold",
        "elastic_checkpoint",
        "round_robin_gradients",
    )
)
"""Keys that change nothing, or only which GPU owns what. Updated parameters are gathered in place."""

LARGEST = 2**53


def settings(keys: Keys, config: Value, zero: Value, width: int) -> Zero:
    """The settings of a ``zero_optimization`` section, for a model of a width."""
    found: dict[str, Any] = {}
    for name, value in zero.entries(repeats=True).items():
        if name in SIZES:
            field = SIZES[name]
            found[field] = _elements(value, field, width)
        elif name in FLAGS:
            found[field := FLAGS[name]] = value.flag()
        elif name in PLACES:
            found[field := PLACES[name]] = _place(value, found)
        else:
            if name not in WITHOUT_BYTES:
                place = f"{value.source.path}:{value.location.line}"
                keys.warnings.append(f"{place}: zero_optimization.{name} is not modelled")
            continue
        keys.origins[f"world.zero.{field}"] = Origin(location=value.location, how="written")
    top = config.entries(repeats=True)
    if "communication_data_type" in top and not top["communication_data_type"].is_null:
        found["communication"] = top["communication_data_type"].dtype()
    if "data_types" in top:
        place = f"{config.source.path}:{top['data_types'].location.line}"
        keys.warnings.append(f"{place}: data_types is not modelled; gradients are kept in the model's dtype")
    for item in fields(Zero):
        keys.origins.setdefault(f"world.zero.{item.name}", Origin(how="default", note="DeepSpeed's default"))
    return Zero(**found)


def under_deepspeed(keys: Keys, workload: Workload) -> Workload:
    """A run under DeepSpeed's engine: everything in one dtype, and no autocast.

    Source: ``native_amp`` in accelerate src/accelerate/accelerator.py, which DeepSpeed is excepted from.
    """
    if keys.get("deepspeed") is None or not workload.world.sharding.startswith("zero"):
        return workload
    dtype = workload.precision.autocast or workload.precision.params
    note = "DeepSpeed keeps the whole model in one dtype, without autocast"
    keys.origins["precision.autocast"] = Origin(how="default", note=note)
    precision = replace(workload.precision, params=dtype, autocast=None)
    adapter = replace(workload.adapter, dtype=dtype) if workload.adapter is not None else None
    return replace(workload, precision=precision, adapter=adapter)


def _elements(value: Value, field: str, width: int) -> int:
    """A number of elements: 200000000, 2e8 or ``auto``."""
    found = value.node.value if isinstance(value.node, ScalarNode) else None
    if found == "auto" and field in AUTO:
        return AUTO[field](width)
    if isinstance(found, float) and found.is_integer():
        return int(value.number(0, LARGEST))
    return value.whole(0, LARGEST)


def _place(value: Value, found: dict[str, Any]) -> Place:
    entries = value.entries(repeats=True)
    if "pin_memory" in entries:
        found["pinned"] = entries["pin_memory"].flag()
    return DEVICES[entries["device"].choice(tuple(DEVICES))] if "device" in entries else Place.GPU
