"""DeepSpeed's ``zero_optimization``: the settings that decide bytes.

Names, aliases and defaults: ``DeepSpeedZeroConfig`` in deepspeed/runtime/zero/config.py (0.19.8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.documents.tree import ScalarNode
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
    "prefetch_bucket_size": "prefetch_bucket",
    "stage3_param_persistence_threshold": "persistence",
    "param_persistence_threshold": "persistence",
    "stage3_max_live_parameters": "max_live",
    "max_live_parameters": "max_live",
    "stage3_max_reuse_distance": "max_reuse",
    "max_reuse_distance": "max_reuse",
    "sub_group_size": "sub_group",
}
FLAGS = {
    "overlap_comm": "overlap",
    "contiguous_gradients": "contiguous",
    "reduce_scatter": "reduce_scatter",
}
PLACES = {"offload_optimizer": "optimizer", "offload_param": "parameters"}
OLDER_PLACES = {"cpu_offload": "optimizer", "cpu_offload_param": "parameters"}
DEVICES = {"none": Place.GPU, "cpu": Place.CPU, "nvme": Place.NVME}
WITHOUT_BYTES = frozenset(
    (
        "stage",
        "allgather_partitions",
        "allgather_bucket_size",
        "stage3_gather_16bit_weights_on_model_save",
        "stage3_gather_fp16_weights_on_model_save",
        "gather_16bit_weights_on_model_save",
        "ignore_unused_parameters",
        "load_from_fp32_weights",
        "stage3_model_persistence_threshold",
        "elastic_checkpoint",
        "round_robin_gradients",
    )
)
"""Keys that change nothing, or only which GPU owns what. Updated parameters are gathered in place."""

OFF = ("false", "1", "-1", "0", "null")
"""Values with which a setting that is not modelled does nothing."""

LARGEST = 2**53


def settings(keys: Keys, zero: Value, width: int) -> Zero:
    """The settings of a ``zero_optimization`` section, for a model of a width.

    ``keys`` is the config around it, and takes origins and warnings.
    """
    found: dict[str, Any] = {}
    for name, value in zero.entries(repeats=True).items():
        field = _setting(keys, name, value, width, found)
        if field is not None:
            keys.note(f"world.zero.{field}", value)
    communication = keys.get("communication_data_type")
    if communication is not None:
        found["communication"] = communication.dtype()
        keys.note("world.zero.communication", communication)
    if (types := keys.get("data_types")) is not None:
        keys.warn(types, "data_types is not modelled; gradients are kept in the model's dtype")
    for item in fields(Zero):
        keys.origins.setdefault(f"world.zero.{item.name}", Origin(how="default", note="DeepSpeed's default"))
    return Zero(**found)


def device(place: Place) -> str:
    """DeepSpeed's word for a place."""
    return next(name for name, found in DEVICES.items() if found is place)


def _setting(keys: Keys, name: str, value: Value, width: int, found: dict[str, Any]) -> str | None:
    """Reads one key into ``found``; the field it decides, if any."""
    if name in SIZES:
        size = _elements(keys, value, SIZES[name], width)
        if size is not None:
            found[SIZES[name]] = size
        return SIZES[name]
    if name in FLAGS:
        found[FLAGS[name]] = None if value.is_null else value.flag()
        return FLAGS[name]
    if name in PLACES:
        found[PLACES[name]] = Place.GPU if value.is_null else _place(value, found)
        return PLACES[name]
    if name in OLDER_PLACES:
        found[OLDER_PLACES[name]] = Place.CPU if not value.is_null and value.flag() else Place.GPU
        return OLDER_PLACES[name]
    if name not in WITHOUT_BYTES and value.written() not in OFF:
        keys.warn(value, f"zero_optimization.{name} is not modelled")
    return None


def _elements(keys: Keys, value: Value, field: str, width: int) -> int | None:
    """A number of elements: 200000000, 2e8 or ``auto``."""
    found = value.node.value if isinstance(value.node, ScalarNode) else None
    if found == "auto":
        if field not in AUTO:
            keys.warn(value, f"nobody fills {value.key.rpartition('.')[2]}: auto; counted is the default")
            return None
        return AUTO[field](width)
    if isinstance(found, float) and found.is_integer():
        return int(value.number(0, LARGEST))
    return value.whole(0, LARGEST)


def _place(value: Value, found: dict[str, Any]) -> Place:
    entries = value.entries(repeats=True)
    if "pin_memory" in entries:
        found["pinned"] = entries["pin_memory"].flag()
    return DEVICES[entries["device"].choice(tuple(DEVICES))] if "device" in entries else Place.GPU
