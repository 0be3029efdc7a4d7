"""A run as accelerate launches it: what a training config leaves open, and what the two both say.

Sources: ``process_config`` in accelerate src/accelerate/commands/config/config_args.py, ``TrainingArguments``
and ``Trainer`` in transformers (5.23), which prefer their own arguments to the launcher's environment.
"""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.accelerate.keys import KINDS, check
from memplan.dialects.accelerate.shardings import deepspeed, fsdp, fsdp_precision
from memplan.dialects.contradiction import contradiction
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Companion, Document, Intake, Origin, Reading
from memplan.dialects.zero.engine import LEFT
from memplan.domain.dtype import Dtype
from memplan.domain.finding import Finding
from memplan.domain.workload import Unmodelled

DTYPES = {"fp16": Dtype.FP16, "bf16": Dtype.BF16, "fp8": Dtype.BF16}
_STEP = ("activations", "logits_and_loss", "temporaries")
_PARALLEL = ("tp", "cp", "sp")
_SHARES = ("embeddings", "decoder_matrix", "blocks", "adapter", "gradients", "optimizer_state", *_STEP)
NOT_CUDA = "this describes another device than a GPU of NVIDIA; counted is what such a GPU would hold"


def launched(reading: Reading, document: Document, intake: Intake) -> Reading:
    """A reading together with the accelerate config it is launched with.

    Raises:
        FieldError: accelerate would refuse the config, or a value has the wrong type or range.
    """
    root = Value(source=document.source, key="", node=document.root)
    check(root)
    keys = Keys(root=root, origins=dict(reading.origins), warnings=list(reading.warnings), lenient=True)
    kind = _kind(keys)
    reading = _spread(_unmodelled(reading, keys, kind), keys, intake, kind)
    reading = replace(reading, origins=keys.origins, warnings=tuple(keys.warnings))
    reading = _precise(reading, keys)
    own = reading.workload.world.sharding != "none"
    beside = Companion(dialect="accelerate", document=document, holds=frozenset(), repeats=frozenset())
    if kind == "DEEPSPEED":
        reading = deepspeed(reading, keys, intake, document, beside)
    elif kind == "FSDP":
        reading = fsdp(reading, keys, own=own, beside=beside)
    else:
        reading = replace(reading, companions=(*reading.companions, beside))
    return fsdp_precision(reading)


def _kind(keys: Keys) -> str:
    value = keys.get("distributed_type")
    if value is None:
        raise keys.root.fail("distributed_type is missing", expected=", ".join(KINDS))
    # YAML reads an unquoted NO as false.
    kind = "NO" if value.written().upper() in ("NO", "FALSE") else value.choice(KINDS)
    if kind.startswith(("MULTI_", "TPU", "XLA")) and kind != "MULTI_GPU":
        keys.warn(value, f"{kind}: {NOT_CUDA}")
    return kind


def _spread(reading: Reading, keys: Keys, intake: Intake, kind: str) -> Reading:
    """How many GPUs hold shares: the processes, less what tensor and sequence parallelism take."""
    value = keys.get("num_processes")
    count = None if value is None or value.written() == "-1" else keys.whole("num_processes")
    if kind == "NO" and count is None:
        count = 1
    if count is None:
        return reading
    for name in _PARALLEL:
        count = max(1, count // (keys.whole(f"parallelism_config.parallelism_config_{name}_size") or 1))
    shard = keys.whole("parallelism_config.parallelism_config_dp_shard_size", low=-1)
    if shard is not None and 0 < shard < count:
        count = shard
    reading = replace(reading, findings=(*reading.findings, *_counts(reading, value or keys.root, count)))
    keys.note("world.data_parallel", value, "distributed_type NO is one process")
    if intake.given.gpus is not None:
        return reading
    return replace(reading, workload=reading.workload.changed("world.data_parallel", count))


def _counts(reading: Reading, value: Value, count: int) -> list[Finding]:
    """Another number of GPUs than a training config has, or than a global batch is made for."""
    origin, before = reading.origins.get("world.data_parallel"), reading.workload.world.data_parallel
    place = origin.location if origin is not None and origin.how == "written" else None
    if place is None or before == count:
        return []
    stated = origin is not None and origin.note == LEFT
    return [
        contradiction(
            value.location,
            f"{count} GPUs share the states",
            place,
            f"a global batch is made for {before}" if stated else str(before),
            "DeepSpeed refuses to start" if stated else "the launcher's number counts",
            refused=stated,
        )
    ]


def _precise(reading: Reading, keys: Keys) -> Reading:
    """Mixed precision, where the training config switches none on itself."""
    value = keys.get("mixed_precision")
    name = value.written().lower() if value is not None else "no"
    if value is None and keys.flag("fp16"):
        value, name = keys.get("fp16"), "fp16"
    if value is None or name in ("no", "false"):
        return reading
    dtype = DTYPES[value.choice(("no", *DTYPES)) if name not in DTYPES else name]
    if name == "fp8":
        keys.warn(value, "fp8 is not modelled; counted as bf16")
    run = reading.workload
    trained = run.precision.autocast or run.world.param_dtype
    if trained is None and run.world.sharding.startswith("zero"):
        trained = run.precision.params
    if trained is None:
        origins = {**reading.origins, "precision.autocast": Origin(location=value.location, how="written")}
        run = run.changed("precision.autocast", dtype)
        return replace(reading, workload=run, origins=origins, warnings=tuple(keys.warnings))
    if trained is dtype:
        return replace(reading, warnings=tuple(keys.warnings))
    origin = reading.origins.get("precision.autocast")
    found = contradiction(
        value.location,
        f"mixed_precision is {name}",
        origin.location if origin is not None else None,
        f"the run trains in {trained}",
        "the training config counts",
    )
    return replace(reading, findings=(*reading.findings, found), warnings=tuple(keys.warnings))


def _unmodelled(reading: Reading, keys: Keys, kind: str) -> Reading:
    """Ways to spread or compile a run that are not simulated."""
    found: list[tuple[Value, str, tuple[str, ...]]] = []
    for name in _PARALLEL:
        value = keys.get(f"parallelism_config.parallelism_config_{name}_size")
        if value is not None and value.written() not in ("1", "-1"):
            found.append((value, f"{name.upper()}: tensors are counted whole on each GPU", _SHARES))
    compiled = keys.get("dynamo_config.dynamo_backend", "dynamo_backend")
    if compiled is not None and compiled.written().upper() not in ("NO", "FALSE"):
        found.append((compiled, "compiled kernels keep other activations than counted", _STEP))
    if kind in ("MEGATRON_LM", "TP"):
        where = keys.get("distributed_type") or keys.root
        found.append((where, f"{kind}: the model is counted whole on each GPU", _SHARES))
    named = tuple(
        Unmodelled(reason=f"{value.source.path}:{value.location.line}: {why}", shrinks=less)
        for value, why, less in found
    )
    run = reading.workload
    return replace(reading, workload=replace(run, unmodelled=(*run.unmodelled, *named)))
