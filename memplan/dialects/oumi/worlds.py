"""How oumi spreads a run over GPUs: its sections ``fsdp`` and ``deepspeed``.

Source: ``DeepSpeedParams`` in src/oumi/core/configs/params/deepspeed_params.py (0.9).
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.oumi.fsdp import ON, under_fsdp
from memplan.dialects.reading import Origin, Reading
from memplan.dialects.table import put
from memplan.dialects.zero.engine import both_zero, one_dtype, stage_of
from memplan.dialects.zero.settings import AUTO, FLAGS, PLACES, SIZES
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload
from memplan.domain.zero import Place, Zero

_STAGES = {"0": "none", "1": "zero1", "2": "zero2", "3": "zero3"}
_STATES = "deepspeed.offload_optimizer"
_PLACES = {"cpu": Place.CPU, "nvme": Place.NVME}


def spread(keys: Keys, run: Workload, kind: str) -> Workload:
    """The run under FSDP or DeepSpeed, if one of them is switched on."""
    if keys.flag(ON):
        return under_fsdp(keys, run, kind)
    if keys.flag("deepspeed.enable_deepspeed"):
        return _deepspeed(keys, run)
    return run


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


def write(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of DeepSpeed's stage and of the place of its optimizer's states, in the section ``deepspeed``.

    Raises:
        EditRefusedError: DeepSpeed is off, has a config of its own, or more of the world changes.
    """
    before, wanted = reading.workload.world, after.world
    if wanted == before:
        return []
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root), lenient=True)
    if not both_zero(before.sharding, wanted.sharding) or keys.has("deepspeed.deepspeed_config_path"):
        raise EditRefusedError("of sharding the stage is written where DeepSpeed's section has one")
    if (
        replace(before, sharding=wanted.sharding, zero=replace(before.zero, optimizer=wanted.zero.optimizer))
        != wanted
    ):
        raise EditRefusedError("of DeepSpeed the stage and the place of optimizer states are written")
    found: list[Edit] = []
    if wanted.sharding != before.sharding:
        found += put(reading, ("deepspeed.zero_stage",), f"ZERO_{stage_of(wanted.sharding)}")
    if wanted.zero.optimizer is not before.zero.optimizer:
        if wanted.zero.optimizer is not Place.CPU or keys.has(_STATES):
            raise EditRefusedError(f"{_STATES} is there already, or has to go")
        found += put(reading, (_STATES,), {"device": "CPU"}, ("zero_stage",))
    return found


def _place(keys: Keys, value: Value) -> Place:
    device = keys.get(f"{value.key}.device")
    word = "cpu" if device is None else device.written().lower()
    if device is not None and word not in _PLACES:
        raise device.fail(f"{device.described()} is no device", expected="CPU or NVME")
    return _PLACES[word]
