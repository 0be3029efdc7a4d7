"""How oumi spreads a run over GPUs: its sections ``fsdp`` and ``deepspeed``.

Source: ``get_accelerate_env_vars`` in src/oumi/core/distributed.py and ``DeepSpeedParams`` in
src/oumi/core/configs/params/deepspeed_params.py (0.9). FSDP is accelerate's version 1.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.dialects.zero.engine import one_dtype
from memplan.dialects.zero.settings import AUTO, FLAGS, PLACES, SIZES
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Checkpointing, Workload
from memplan.domain.zero import Place, Zero

_WHOLE = ("SHARD_GRAD_OP", "HYBRID_SHARD_ZERO2")
_STAGES = {"0": "none", "1": "zero1", "2": "zero2", "3": "zero3"}
_PLACES = {"cpu": Place.CPU, "nvme": Place.NVME}


def spread(keys: Keys, run: Workload, kind: str) -> Workload:
    """The run under FSDP or DeepSpeed, if one of them is switched on."""
    if keys.flag("fsdp.enable_fsdp"):
        return _fsdp(keys, run, kind)
    if keys.flag("deepspeed.enable_deepspeed"):
        return _deepspeed(keys, run)
    return run


def _fsdp(keys: Keys, run: Workload, kind: str) -> Workload:
    """Accelerate then checkpoints blocks, in the newer way, if oumi was to."""
    strategy = keys.get("fsdp.sharding_strategy")
    keys.note("world.sharding", strategy or keys.get("fsdp.enable_fsdp"), how="FSDP")
    word = "FULL_SHARD" if strategy is None else strategy.written().upper()
    if word == "NO_SHARD":
        return run
    offload = keys.get("fsdp.cpu_offload")
    if offload is not None and keys.flag("fsdp.cpu_offload"):
        keys.warn(offload, "fsdp.cpu_offload is not modelled; parameters are counted on the GPU")
    world = replace(run.world, sharding="fsdp1", reshard_after_forward=word not in _WHOLE)
    run = _mixed(keys, replace(run, world=world))
    if kind != "oumi" and run.checkpointing.every:
        run = replace(run, checkpointing=Checkpointing(every=1))
    return run


def _mixed(keys: Keys, run: Workload) -> Workload:
    """``fsdp.mixed_precision`` computes in that dtype; trained parameters are then kept in fp32."""
    value = keys.get("fsdp.mixed_precision")
    if value is None or run.precision.autocast is not None:
        return run
    keys.note("precision.autocast", value, how="FSDP's mixed precision")
    params = run.precision.params if run.adapter is not None else Dtype.FP32
    precision = replace(run.precision, params=params, autocast=value.dtype())
    return replace(run, precision=precision)


def _deepspeed(keys: Keys, run: Workload) -> Workload:
    stage = keys.get("deepspeed.zero_stage")
    keys.note("world.sharding", stage or keys.get("deepspeed.enable_deepspeed"))
    word = "0" if stage is None else stage.written().upper().removeprefix("ZERO_")
    if stage is not None and word not in _STAGES:
        raise stage.fail(f"{stage.described()} is no stage", expected="ZERO_0, ZERO_1, ZERO_2 or ZERO_3")
    model = run.model
    width = model.hidden_size if isinstance(model, Architecture) else 0
    zero = _zero(keys, width) if word != "0" else Zero()
    run = replace(run, world=replace(run.world, sharding=_STAGES[word], zero=zero))
    half = keys.get("deepspeed.precision")
    if half is not None:
        keys.note("precision.params", half)
        run = run.changed("precision.params", Dtype.parse(half.written().lower()))
    return one_dtype(keys, run)


def _zero(keys: Keys, width: int) -> Zero:
    """ZeRO's settings, which have DeepSpeed's names and defaults."""
    found: dict[str, Any] = {"overlap": False}
    for name, field in (SIZES | FLAGS | PLACES).items():
        value = keys.get(f"deepspeed.{name}")
        if value is None:
            continue
        keys.note(f"world.zero.{field}", value)
        if name in FLAGS:
            found[field] = value.flag()
        elif name in PLACES:
            found[field] = _place(keys, value)
        elif value.written() != "auto":
            found[field] = value.whole(0)
        elif field in AUTO:
            found[field] = AUTO[field](width)
    for item in fields(Zero):
        keys.origins.setdefault(f"world.zero.{item.name}", Origin(how="default", note="oumi's default"))
    return Zero(**found)


def _place(keys: Keys, value: Value) -> Place:
    device = keys.get(f"{value.key}.device")
    word = "cpu" if device is None else device.written().lower()
    if device is not None and word not in _PLACES:
        raise device.fail(f"{device.described()} is no device", expected="CPU or NVME")
    return _PLACES[word]
