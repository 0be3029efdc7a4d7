"""What a torchtitan job says about memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from memplan.dialects import models, table
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.dialects.table import Setting
from memplan.dialects.torchtitan.flavors import BACKEND, FLEX, MODELS, width
from memplan.dialects.torchtitan.unmodelled import unmodelled
from memplan.documents.tree import ScalarNode
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.errors import Location
from memplan.domain.host import HostUse, Saving
from memplan.domain.workload import (
    Attention,
    Batch,
    Checkpointing,
    Optimizer,
    Precision,
    Workload,
    World,
)

_IMPLEMENTATIONS = {"fused": "fused", "foreach": "foreach", "for-loop": "for_loop"}
_OPTIMIZERS = {"AdamW": "adamw", "Adam": "adam"}
_DTYPES = ("float32", "bfloat16")
DDP_BUCKET = 100
"""``bucket_cap_mb`` of ``apply_ddp`` in torchtitan/models/llama3/infra/parallelize.py."""


def _implementation(_: Keys, value: Value) -> str:
    return _IMPLEMENTATIONS[value.choice(tuple(_IMPLEMENTATIONS))]


def _optimizer(_: Keys, value: Value) -> str:
    return _OPTIMIZERS[value.choice(tuple(_OPTIMIZERS))]


def _dtype(_: Keys, value: Value) -> Dtype:
    value.choice(_DTYPES)
    return value.dtype()


MICRO = Setting(
    field="batch.micro",
    keys=("training.local_batch_size", "training.batch_size"),
    read=table.whole,
    default=8,
    says="torchtitan's default: 8",
)
LENGTH = Setting(
    field="sequence.length",
    keys=("training.seq_len",),
    read=table.whole,
    default=2048,
    says="torchtitan's default: 2048",
)
IMPLEMENTATION = Setting(
    field="optimizer.implementation",
    keys=("optimizer.implementation",),
    read=_implementation,
    default="fused",
    says="torchtitan's default: fused",
    spell=lambda name: name.replace("_", "-"),
)
_OTHERS = (
    Setting(
        field="optimizer.name",
        keys=("optimizer.name",),
        read=_optimizer,
        default="adamw",
        says="torchtitan's default: AdamW",
    ),
    Setting(
        field="precision.params",
        keys=("training.dtype",),
        read=_dtype,
        default=Dtype.FP32,
        says="torchtitan's default: float32",
    ),
)


def read(document: Document, intake: Intake) -> Reading:
    """The training run a job describes.

    Raises:
        FieldError, UnknownNameError: at the value that is missing, wrong or not supported.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root)
    values = table.settle(keys, (MICRO, LENGTH, IMPLEMENTATION, *_OTHERS))
    world = _world(keys, intake)
    compute = _compute(keys)
    alone = world.sharding == "none"
    model, attention = _model(keys, intake)
    workload = Workload(
        model=model,
        precision=Precision(autocast=compute if alone else None),
        batch=Batch(accumulation=_accumulation(keys, values["batch.micro"], world)),
        optimizer=Optimizer(clipping=True),
        attention=attention,
        checkpointing=_checkpointing(keys),
        world=world if alone else _mixed(world, compute),
        host=_host(keys),
        saving=_saving(keys),
        unmodelled=unmodelled(keys),
    )
    keys.origins["task"] = Origin(how="default", note="torchtitan trains")
    keys.origins["loss"] = Origin(how="default", note="torchtitan's cross-entropy of logits in fp32")
    keys.origins["outputs"] = Origin(how="default", note="torchtitan deletes the logits before backward")
    return keys.reading(document, "torchtitan", table.changed(workload, values))


def _model(keys: Keys, intake: Intake) -> tuple[Architecture, Attention]:
    """``model.name`` and ``model.flavor``."""
    name, flavor = keys.get("model.name"), keys.get("model.flavor")
    family = "llama3" if name is None else name.choice(tuple(MODELS))
    size = "debugmodel" if flavor is None else flavor.choice(tuple(MODELS[family]))
    keys.note("model", flavor or name, "torchtitan's default: llama3, debugmodel")
    config = dict(MODELS[family][size])
    if family == BACKEND:
        config = _transformers(keys, intake, config)

    def where(_: str) -> Location:
        return (flavor or name or keys.root).location

    flex = family == "gpt_oss" or any(part in size for part in FLEX)
    keys.note("attention", flavor, "torchtitan's default: SDPA")
    if flex:
        keys.warnings.append("FlexAttention is counted like memory-efficient attention")
    return intake.models.architecture(config, where), Attention.EFFICIENT if flex else Attention.SDPA


def _transformers(keys: Keys, intake: Intake, flavor: dict[str, Any]) -> dict[str, Any]:
    """A hub model in the flavor's dimensions (``HFTransformerModelArgs.update_from_config``)."""
    hub = keys.get("hf_transformers.model")
    if hub is None:
        raise keys.root.fail("hf_transformers.model is missing", expected="a hub id")
    found = intake.models.config(hub.word())
    if found is None:
        models.of_hub(hub.word(), hub, intake)  # says which ids are known
    keys.note("model", hub)
    hidden = flavor["hidden_size"]
    return {
        **(found or {}),
        **flavor,
        "intermediate_size": width(hidden),
        "head_dim": hidden // flavor["num_attention_heads"],
        "attention_bias": False,
        "mlp_bias": False,
    }


def _world(keys: Keys, intake: Intake) -> World:
    """FSDP2 over what ``data_parallel_shard_degree`` leaves, copies of the model over replicas.

    Without FSDP the model is wrapped in DistributedDataParallel, and alone it is not wrapped at all.
    """
    shard, replicate = _shard(keys), keys.whole("parallelism.data_parallel_replicate_degree") or 1
    reshard = keys.get("parallelism.fsdp_reshard_after_forward")
    keys.note("world.reshard_after_forward", reshard, "torchtitan's default: parameters are let go again")
    keys.note("world.sharding", "parallelism.data_parallel_shard_degree", "torchtitan's default: FSDP2")
    gpus = intake.given.gpus
    if shard is None:
        keys.note("world.data_parallel", None, "counted as one GPU: the file does not say")
        shard = 1 if gpus is None else max(1, gpus // replicate)
        if gpus is None:
            keys.warnings.append(
                "parameters are sharded over as many GPUs as there are: counted as 1, give --gpus N"
            )
    elif shard > 1:
        keys.note("world.data_parallel", "parallelism.data_parallel_shard_degree")
    else:
        keys.note("world.data_parallel", "parallelism.data_parallel_replicate_degree", "one GPU")
    if shard == 1:
        bucket = DDP_BUCKET if replicate > 1 else None
        return World(data_parallel=replicate, bucket_cap_mb=bucket)
    return World(
        data_parallel=shard,
        sharding="fsdp2",
        reshard_after_forward=reshard is None or reshard.choice(("default", "always", "never")) != "never",
    )


def _shard(keys: Keys) -> int | None:
    """The degree of sharding, ``None`` where it takes what other degrees leave (-1)."""
    value = keys.get("parallelism.data_parallel_shard_degree")
    if value is None or (isinstance(value.node, ScalarNode) and value.node.value == -1):
        return None
    return value.whole()


def _mixed(world: World, compute: Dtype) -> World:
    """The policy of ``apply_fsdp``: computing in ``mixed_precision_param``, reducing in fp32."""
    return replace(world, param_dtype=compute, reduce_dtype=Dtype.FP32)


def _compute(keys: Keys) -> Dtype:
    """What FSDP2's policy computes in, and autocast where nothing is sharded (``maybe_enable_amp``)."""
    value = keys.get("training.mixed_precision_param")
    for field in ("precision.autocast", "world.param_dtype"):
        keys.note(field, value, "torchtitan's default: bfloat16")
    return Dtype.BF16 if value is None else _dtype(keys, value)


def _accumulation(keys: Keys, micro: int, world: World) -> int:
    """``global_batch_size`` over what all GPUs take at a time; -1, the default, does without accumulation."""
    value = keys.get("training.global_batch_size")
    keys.note(
        "batch.accumulation", value, "torchtitan's default: no accumulation", "the global batch decides"
    )
    if value is None or (isinstance(value.node, ScalarNode) and value.node.value == -1):
        return 1
    return max(1, value.whole() // (micro * world.data_parallel))


def _checkpointing(keys: Keys) -> Checkpointing:
    """``activation_checkpoint``: every block, every n-th, or none.

    Of every few blocks it is the last: ``_apply_layer_sac`` (torchtitan/distributed/activation_checkpoint.py)
    counts from one. By operators (``op``), or within a budget, what is kept is not simulated: counted as
    everything.
    """
    mode = keys.get("activation_checkpoint.mode")
    option = keys.get("activation_checkpoint.selective_ac_option")
    keys.note("checkpointing", mode, "torchtitan's default: every second block")
    name = "selective" if mode is None else mode.choice(("none", "selective", "full", "memory_budget"))
    if name != "selective":
        return Checkpointing(every=int(name == "full"))
    if option is None or option.written() == "op":
        return Checkpointing(every=2, start=1) if option is None else Checkpointing()
    digits = option.written()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 9):
        raise option.fail(f"{option.described()} is no option", expected='"op", or a number of blocks')
    every = int(digits) or 1
    return Checkpointing(every=every, start=every - 1)


def _host(keys: Keys) -> HostUse:
    """Weights are made on the GPU; the loader works in the trainer's process unless told otherwise."""
    workers = keys.get("training.dataloader.num_workers")
    return HostUse(
        workers=0 if workers is None else workers.whole(0, 1024),
        prefetch=keys.whole("training.dataloader.prefetch_factor") or 2,
        pinned=bool(keys.flag("training.dataloader.pin_memory")),
    )


def _saving(keys: Keys) -> Saving:
    """``checkpoint``: off by default; 0 keeps everything, which is counted as the usual ten."""
    enabled = keys.flag("checkpoint.enable")
    keys.note("saving.kept", "checkpoint.enable", "torchtitan's default: nothing is saved")
    if not enabled:
        return Saving(kept=0)
    limit = keys.get("checkpoint.keep_latest_k")
    return Saving(kept=(10 if limit is None else limit.whole(0, 2**20)) or 10)
