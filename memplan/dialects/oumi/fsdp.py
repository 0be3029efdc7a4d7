"""oumi's section ``fsdp``: accelerate's version 1, or PyTorch's own in oumi's loop.

Source: ``get_accelerate_env_vars`` in src/oumi/core/distributed.py and ``FSDPParams`` in
src/oumi/core/configs/params/fsdp_params.py (0.9).
"""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.keys import Keys
from memplan.dialects.unmodelled import placed
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Checkpointing, Unmodelled, Workload

ON = "fsdp.enable_fsdp"
BY_BLOCK = "TRANSFORMER_BASED_WRAP"
_PREFETCH = {"BACKWARD_PRE": "pre", "BACKWARD_POST": "post", "NO_PREFETCH": "none"}
_KEPT_WHOLE = ("SHARD_GRAD_OP", "HYBRID_SHARD_ZERO2")


def under_fsdp(keys: Keys, run: Workload, kind: str) -> Workload:
    """Accelerate then checkpoints blocks, in the newer way, if oumi was to."""
    strategy = keys.get("fsdp.sharding_strategy")
    keys.note("world.sharding", strategy or keys.get(ON), how="FSDP")
    word = "FULL_SHARD" if strategy is None else strategy.written().upper()
    if word == "NO_SHARD":
        return run
    offload = keys.get("fsdp.cpu_offload")
    if offload is not None and keys.flag("fsdp.cpu_offload"):
        keys.warn(offload, "fsdp.cpu_offload is not modelled; parameters are counted on the GPU")
    world = replace(
        run.world,
        sharding="fsdp1",
        reshard_after_forward=word not in _KEPT_WHOLE,
        hybrid=word.startswith("HYBRID"),
        backward_prefetch=_prefetch(keys),
        use_orig_params=_original(keys),
    )
    run = _mixed(keys, replace(run, world=world))
    if kind != "oumi" and run.checkpointing.every:
        run = replace(run, checkpointing=Checkpointing(every=1))
    return replace(run, unmodelled=(*run.unmodelled, *_wrapped(keys, run)))


def _mixed(keys: Keys, run: Workload) -> Workload:
    """``fsdp.mixed_precision`` computes in that dtype; trained parameters are then kept in fp32."""
    value = keys.get("fsdp.mixed_precision")
    if value is None or run.precision.autocast is not None:
        return run
    keys.note("precision.autocast", value, how="FSDP's mixed precision")
    dtype = value.dtype()
    params = run.precision.params if run.adapter is not None else Dtype.FP32
    return replace(
        run,
        precision=replace(run.precision, params=params, autocast=dtype),
        world=replace(run.world, param_dtype=dtype, reduce_dtype=dtype),
    )


def _prefetch(keys: Keys) -> str:
    """When backward gathers the block before."""
    value = keys.get("fsdp.backward_prefetch")
    keys.note("world.backward_prefetch", value, "oumi's default: BACKWARD_PRE")
    word = "BACKWARD_PRE" if value is None else value.written().upper()
    if value is not None and word not in _PREFETCH:
        raise value.fail(f"{value.described()} is no kind of prefetching", expected=", ".join(_PREFETCH))
    return _PREFETCH[word]


def _original(keys: Keys) -> bool:
    """Whether the optimizer gets the original parameters: not those of adapters, unless compiled."""
    value = keys.get("fsdp.use_orig_params")
    keys.note("world.use_orig_params", value, "oumi's default: unless adapters are trained uncompiled")
    if value is not None:
        return bool(keys.flag("fsdp.use_orig_params"))
    return bool(keys.flag("training.compile")) or not keys.flag("training.use_peft")


def _wrapped(keys: Keys, run: Workload) -> tuple[Unmodelled, ...]:
    """Other units than blocks: without any, which is the default, the model is gathered whole."""
    value = keys.get("fsdp.auto_wrap_policy")
    if value is not None and value.written().upper() == BY_BLOCK:
        return ()
    place = value or keys.get(ON) or keys.root
    size = run.model.parameters if isinstance(run.model, Architecture) else 0
    reason = f"not {BY_BLOCK}: blocks are counted as gathered one by one, and may be gathered all at once"
    return (placed(place, Unmodelled(reason=reason, adds=size * run.compute.itemsize)),)
