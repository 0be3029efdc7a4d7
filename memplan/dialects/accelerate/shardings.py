"""DeepSpeed and FSDP as accelerate sets them up.

Sources: ``DeepSpeedPlugin`` and ``FullyShardedDataParallelPlugin`` in accelerate
src/accelerate/utils/dataclasses.py, ``fsdp2_prepare_model`` in utils/fsdp_utils.py (1.15).
"""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.contradiction import contradiction
from memplan.dialects.fields import Value
from memplan.dialects.flat import flat, upcast
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Companion, Document, Intake, Origin, Reading
from memplan.dialects.zero.engine import STAGES, joined, one_dtype
from memplan.dialects.zero.settings import DEVICES
from memplan.domain.dtype import Dtype
from memplan.domain.finding import Finding
from memplan.domain.workload import Checkpointing
from memplan.domain.zero import Place, Zero

FILE = "deepspeed_config.deepspeed_config_file"
STAGE = "deepspeed_config.zero_stage"
ACCUMULATION = "deepspeed_config.gradient_accumulation_steps"
OFFLOADS = {
    "optimizer": "deepspeed_config.offload_optimizer_device",
    "parameters": "deepspeed_config.offload_param_device",
}
CHECKPOINTING = "fsdp_config.fsdp_activation_checkpointing"
RESHARDS = "fsdp_config.fsdp_reshard_after_forward"
STRATEGY = "fsdp_config.fsdp_sharding_strategy"
VERSION = "fsdp_config.fsdp_version"
DEFAULT_STAGE = 2
_WITHOUT_SHARDS = ("NO_SHARD", "3")
_WITHIN_A_NODE = ("HYBRID_SHARD", "4", "HYBRID_SHARD_ZERO2", "5")
_GRADIENTS_ONLY = ("SHARD_GRAD_OP", "2", "HYBRID_SHARD_ZERO2", "5")


def deepspeed(reading: Reading, keys: Keys, intake: Intake, document: Document, beside: Companion) -> Reading:
    """The run under DeepSpeed, by the file the config names or by the few settings it has itself.

    A DeepSpeed config of the training config itself is preferred, as by the Trainer.
    """
    theirs = next((item for item in reading.companions if item.dialect == "deepspeed"), None)
    file = keys.get(FILE)
    if theirs is not None:
        found = _two_configs(reading, keys, file)
        return replace(
            reading, findings=(*reading.findings, *found), companions=(*reading.companions, beside)
        )
    if file is not None:
        reading = replace(reading, companions=(*reading.companions, beside))
        return joined(reading, file, intake, document.path.parent)
    return _plugin(reading, keys, beside)


def _plugin(reading: Reading, keys: Keys, beside: Companion) -> Reading:
    """The plugin's own settings: everything else of ``zero_optimization`` is DeepSpeed's default."""
    keys = replace(keys, origins=dict(reading.origins), warnings=list(reading.warnings))
    value = keys.get(STAGE)
    stage = DEFAULT_STAGE if value is None else value.whole(0, 3)
    keys.note("world.sharding", value, f"accelerate's default: stage {DEFAULT_STAGE}")
    places = {field: _place(keys, field, name) for field, name in OFFLOADS.items()}
    zero = Zero(optimizer=places["optimizer"], parameters=places["parameters"])
    world = replace(reading.workload.world, sharding=STAGES[stage], zero=zero)
    run = one_dtype(keys, replace(reading.workload, world=world))
    fixed = _accumulation(keys)
    if fixed is not None and reading.dialect == "accelerate":
        keys.note("batch.accumulation", fixed)
        run = run.changed("batch.accumulation", fixed.whole())
    both = fixed is not None and reading.dialect != "accelerate"
    return replace(
        reading,
        workload=run,
        origins=keys.origins,
        warnings=tuple(keys.warnings),
        findings=(*reading.findings, *_accumulations(reading, keys)),
        companions=(
            *reading.companions,
            replace(
                beside,
                holds=frozenset(("world",)),
                repeats=frozenset(("batch",)) if both else frozenset(),
            ),
        ),
    )


def _place(keys: Keys, field: str, name: str) -> Place:
    value = keys.get(name)
    keys.note(f"world.zero.{field}", value, "accelerate's default: on the GPU")
    return Place.GPU if value is None else DEVICES[value.choice(tuple(DEVICES))]


def _accumulation(keys: Keys) -> Value | None:
    value = keys.get(ACCUMULATION)
    return None if value is None or value.written() == "auto" else value


def _accumulations(reading: Reading, keys: Keys) -> list[Finding]:
    """The Trainer compares its accumulation with the plugin's (``propagate_args_to_deepspeed``)."""
    value, steps = _accumulation(keys), reading.workload.batch.accumulation
    if value is None or value.whole() == steps or reading.dialect == "accelerate":
        return []
    origin = reading.origins.get("batch.accumulation")
    place = origin.location if origin is not None else None
    return [
        contradiction(
            value.location,
            f"gradient_accumulation_steps is {value.whole()}",
            place,
            f"{steps}" if place is not None else f"{steps} by default",
            "the Trainer refuses to start",
            refused=True,
            fix="write gradient_accumulation_steps: auto",
        )
    ]


def _two_configs(reading: Reading, keys: Keys, file: Value | None) -> list[Finding]:
    value = keys.get(STAGE)
    stage = STAGES[DEFAULT_STAGE if value is None else value.whole(0, 3)]
    if file is None and stage == reading.workload.world.sharding:
        return []
    origin = reading.origins.get("world.sharding")
    says = f"deepspeed_config_file is {file.word()}" if file is not None else f"stage {stage[-1]}"
    sharding = reading.workload.world.sharding
    return [
        contradiction(
            (file or value or keys.root).location,
            says,
            origin.location if origin is not None else None,
            f"the training config has one of its own ({sharding})",
            "the training config's counts",
        )
    ]


def fsdp(reading: Reading, keys: Keys, *, own: bool, beside: Companion) -> Reading:
    """The run under FSDP; ``own`` says that the training config is sharded already, which is preferred."""
    keys = replace(keys, origins=dict(reading.origins), warnings=list(reading.warnings))
    if own:
        return _sharded_twice(reading, keys, beside)
    version = keys.whole(VERSION) or 1
    strategy = keys.get(STRATEGY, RESHARDS)
    name = strategy.written().upper() if strategy is not None and version == 1 else ""
    sharding = "none" if name in _WITHOUT_SHARDS else f"fsdp{min(version, 2)}"
    keys.note("world.sharding", keys.get(VERSION, STRATEGY, "distributed_type"))
    reshards = keys.flag(RESHARDS) is not False if version == 2 else name not in _GRADIENTS_ONLY
    keys.note("world.reshard_after_forward", keys.get(RESHARDS), "accelerate's default: resharded")
    if keys.flag("fsdp_config.fsdp_offload_params"):
        offloaded = keys.get("fsdp_config.fsdp_offload_params") or keys.root
        keys.warn(offloaded, "fsdp_offload_params is not modelled; parameters are counted on the GPU")
    run = reading.workload
    world = replace(
        run.world, sharding=sharding, reshard_after_forward=reshards, hybrid=name in _WITHIN_A_NODE
    )
    world = flat(world, lambda name: keys.get(f"fsdp_config.fsdp_{name}", f"fsdp_config.fsdp_{name}_policy"))
    run, found = replace(run, world=world), list(reading.findings)
    held = {"world"}
    if keys.flag(CHECKPOINTING):
        found += _checkpointed_twice(reading, keys)
        keys.note("checkpointing", keys.get(CHECKPOINTING))
        run = replace(run, checkpointing=Checkpointing(every=1))
        held.add("checkpointing")
    return replace(
        reading,
        workload=run,
        origins=keys.origins,
        warnings=tuple(keys.warnings),
        findings=tuple(found),
        companions=(*reading.companions, replace(beside, holds=frozenset(held))),
    )


def _sharded_twice(reading: Reading, keys: Keys, beside: Companion) -> Reading:
    value = keys.get("distributed_type") or keys.root
    sharding, origin = reading.workload.world.sharding, reading.origins.get("world.sharding")
    companions = (*reading.companions, beside)
    if sharding.startswith("fsdp"):
        return replace(reading, companions=companions)
    found = contradiction(
        value.location, "FSDP is set", origin.location if origin else None, "DeepSpeed", "DeepSpeed counts"
    )
    return replace(reading, companions=companions, findings=(*reading.findings, found))


def _checkpointed_twice(reading: Reading, keys: Keys) -> list[Finding]:
    """Both kinds of checkpointing: the Trainer refuses (``create_accelerator_and_postprocess``)."""
    value, origin = keys.get(CHECKPOINTING), reading.origins.get("checkpointing")
    if value is None or not reading.workload.checkpointing.every:
        return []
    place = origin.location if origin is not None else None
    return [
        contradiction(
            value.location,
            "fsdp_activation_checkpointing is true",
            place,
            "the training config's own checkpointing is on" + ("" if place else " by default"),
            "the Trainer refuses to start",
            refused=True,
            fix="keep one of the two",
        )
    ]


def fsdp_precision(reading: Reading) -> Reading:
    """FSDP2 computes in the dtype of its policy, keeps what is trained in fp32, and has plain optimizers.

    FSDP1 leaves autocast on (``upcast``).

    PyTorch takes its tensors one by one unless told otherwise (``_default_to_fused_or_foreach``).
    """
    run = reading.workload
    dtype = run.precision.autocast
    if run.world.sharding != "fsdp2":
        return replace(reading, workload=upcast(run))
    origins = dict(reading.origins)
    if run.optimizer.implementation == "foreach":
        run = run.changed("optimizer.implementation", "for_loop")
    if dtype is not None:
        before = origins.get("precision.autocast")
        origins["precision.autocast"] = Origin(
            location=before.location if before is not None else None,
            how="default",
            note="FSDP2 computes in the dtype of its policy, without autocast",
        )
        params = run.precision.params if run.adapter is not None else Dtype.FP32
        run = replace(
            run,
            precision=replace(run.precision, params=params, autocast=None),
            world=replace(run.world, param_dtype=dtype, reduce_dtype=dtype),
        )
    return replace(reading, workload=run, origins=origins)
