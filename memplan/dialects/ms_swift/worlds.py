"""DeepSpeed and FSDP under names that ms-swift brings configs for (swift/config/*.json, 4.6)."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.zero.engine import one_dtype
from memplan.dialects.zero.settings import AUTO
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Checkpointing, Workload, World
from memplan.domain.zero import Place, Zero

STAGES = {
    "zero0": "none",
    "zero1": "zero1",
    "zero2": "zero2",
    "zero3": "zero3",
    "zero2_offload": "zero2",
    "zero3_offload": "zero3",
}
_BUCKET = 200_000_000
_FSDP = "fsdp2"


def named(keys: Keys) -> Value | None:
    """The value of ``deepspeed`` where it is the name of a config that ms-swift brings."""
    value = keys.get("deepspeed")
    return value if value is not None and value.written() in STAGES else None


def under_deepspeed(keys: Keys, run: Workload, value: Value) -> Workload:
    """The run as one of these configs has it: one dtype, and ``auto`` as the Trainer fills it."""
    keys.note("world.sharding", value)
    return one_dtype(keys, replace(run, world=_world(value.written(), run)))


def write(reading: Reading, after: Workload) -> list[Edit]:
    """The name of the config that is just what is asked for.

    Raises:
        EditRefusedError: none of them is, or the file names none.
    """
    before = reading.workload
    if after.world == before.world:
        return []
    keys = Keys(root=Value(source=reading.document.source, key="", node=reading.document.root), lenient=True)
    if named(keys) is None:
        raise EditRefusedError("no config that ms-swift brings is named")
    name = next((name for name in STAGES if _world(name, before) == after.world), None)
    if name is None:
        raise EditRefusedError("none of the configs that ms-swift brings is just that")
    return put(reading, ("deepspeed",), name)


def _world(name: str, run: Workload) -> World:
    """How one of these configs spreads a run."""
    stage = STAGES[name]
    away = Place.CPU if name.endswith("offload") else Place.GPU
    width = run.model.hidden_size if isinstance(run.model, Architecture) else 0
    if stage == "zero3":
        zero = Zero(
            overlap=False,
            optimizer=away,
            parameters=away,
            reduce_bucket=AUTO["reduce_bucket"](width),
            prefetch_bucket=AUTO["prefetch_bucket"](width),
            persistence=AUTO["persistence"](width),
        )
    elif stage == "none":
        zero = Zero()
    else:
        zero = Zero(overlap=False, reduce_bucket=_BUCKET, optimizer=away)
    return replace(run.world, sharding=stage, zero=zero)


def under_fsdp(keys: Keys, run: Workload) -> Workload:
    """FSDP2 computes in the dtype of its policy, keeps what is trained in fp32, and checkpoints blocks."""
    value = keys.get("fsdp")
    if value is None or value.written() != _FSDP:
        return run
    keys.note("world.sharding", value)
    keys.note("checkpointing", value, how="ms-swift's fsdp2.json")
    keys.note("precision.autocast", value, how="FSDP2 computes in the dtype of its policy")
    dtype = run.precision.autocast
    loop = "for_loop" if run.optimizer.implementation == "foreach" else run.optimizer.implementation
    params = run.precision.params if run.adapter is not None else Dtype.FP32
    return replace(
        run,
        precision=replace(run.precision, params=params, autocast=None),
        optimizer=replace(run.optimizer, implementation=loop),
        checkpointing=Checkpointing(every=1),
        world=replace(run.world, sharding=_FSDP, param_dtype=dtype, reduce_dtype=dtype),
    )


def by_fsdp(keys: Keys) -> bool:
    """Whether FSDP decides what is checkpointed."""
    value = keys.get("fsdp")
    return value is not None and value.written() == _FSDP
