"""What a GPT-NeoX config says about memory."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects import models, table
from memplan.dialects.fields import Value
from memplan.dialects.gpt_neox.model import architecture, attention, vocabulary_gap
from memplan.dialects.gpt_neox.names import underscored
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, Intake, Origin, Reading
from memplan.dialects.table import Setting
from memplan.dialects.unmodelled import STATES, STEP, placed
from memplan.dialects.zero import batch
from memplan.dialects.zero.engine import engine
from memplan.documents.tree import MappingNode
from memplan.domain.dtype import Dtype
from memplan.domain.host import Saving
from memplan.domain.workload import (
    Batch,
    Checkpointing,
    Optimizer,
    Precision,
    Unmodelled,
    Workload,
)

_REFUSED = {
    "moe_num_experts": "its mixture of experts is not simulated",
    "train_impl": "every step runs further models or pairs of sequences",
}
_PRECISIONS = {"fp16": Dtype.FP16, "bfloat16": Dtype.BF16, "fp32": Dtype.FP32}

BEFORE = 2
"""Pieces of the pipeline in front of the blocks: the embeddings, and what turns their sides."""

LENGTH = Setting(
    field="sequence.length",
    keys=("seq_length",),
    read=table.whole,
    default=2048,
    says="not written: assumed 2048",
)
_CODE = Unmodelled(
    reason="GPT-NeoX's own model code is counted as transformers writes it; fused kernels keep less",
    shrinks=("activations",),
    grows=("temporaries",),
)


def read(document: Document, intake: Intake) -> Reading:
    """The training run of a config that describes its model.

    Raises:
        FieldError: a value is missing, wrong, or asks for what is not simulated.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    assert isinstance(root.node, MappingNode)
    document = replace(document, root=underscored(root.node))
    keys = Keys(root=replace(root, node=document.root))
    _refuse(keys)
    values = table.settle(keys, (LENGTH,))
    degree = (keys.whole("model_parallel_size") or 1) * (keys.whole("pipe_parallel_size", low=0) or 1)
    gpus = None if intake.given.gpus is None else max(1, intake.given.gpus // degree)
    model = architecture(keys, intake)
    workload = Workload(
        model=model,
        precision=Precision(params=_params(keys)),
        batch=_batch(keys, gpus),
        optimizer=Optimizer(name="adamw", implementation="fused", clipping=_clips(keys)),
        attention=attention(keys),
        checkpointing=_checkpointing(keys, model.depth),
        saving=_saving(keys),
        unmodelled=(
            _CODE,
            *vocabulary_gap(keys),
            *_degrees(keys),
            *_last_chunk(keys, model.depth),
            *_gradients(keys),
        ),
    )
    origin = keys.origins["precision.params"]
    workload = engine(keys, table.changed(workload, values), gpus)
    keys.origins["precision.params"] = origin
    keys.origins["task"] = Origin(how="default", note="GPT-NeoX trains")
    return keys.reading(document, "gpt_neox", _eight_bit(keys, workload))


def _refuse(keys: Keys) -> None:
    for name, why in _REFUSED.items():
        value = keys.get(name)
        if value is not None and value.written() not in ("1", "0", "normal"):
            raise value.fail(f"{value.described()} is not modelled: {why}", expected="training on tokens")


def _params(keys: Keys) -> Dtype:
    """``precision``, else what ``fp16`` or ``bf16`` switch on, else fp32 (``calculate_derived``)."""
    value = keys.get("precision")
    path = "precision.params"
    if value is not None:
        keys.note(path, value)
        return _PRECISIONS[value.choice(tuple(_PRECISIONS))]
    for name, dtype in (("fp16", Dtype.FP16), ("bf16", Dtype.BF16)):
        section = keys.get(name)
        on = keys.get(f"{name}.enabled") if section is not None and not _flat(section) else section
        if on is not None and on.flag():
            keys.note(path, on)
            return dtype
    keys.note(path, None, "GPT-NeoX's default: fp32")
    return Dtype.FP32


def _flat(value: Value) -> bool:
    return not isinstance(value.node, MappingNode)


def _batch(keys: Keys, gpus: int | None) -> Batch:
    """Any two of DeepSpeed's three sizes; another file of the run must give them where this one does not."""
    sizes = batch.written(keys)
    keys.note("batch.micro", keys.get(batch.MICRO, batch.TOTAL), "another file of the run decides; assumed 1")
    keys.note("batch.accumulation", keys.get(batch.ACCUMULATION, batch.TOTAL), "GPT-NeoX's default: 1")
    found = batch.derived(sizes, gpus or 1)
    if found is not None:
        return found
    if batch.MICRO in sizes or batch.TOTAL in sizes:
        value = keys.get(batch.TOTAL, batch.MICRO)
        assert value is not None
        raise value.fail("is smaller than what one step takes", expected="micro x accumulation x GPUs")
    keys.origins["batch.micro"] = Origin(how="assumed", note="another file of the run decides; assumed 1")
    keys.warnings.append(f"{keys.root.source.path}: names no batch size; assumed one sequence")
    return Batch(accumulation=sizes.get(batch.ACCUMULATION, 1))


def _clips(keys: Keys) -> bool:
    value = keys.get("gradient_clipping")
    keys.note("optimizer.clipping", value, "GPT-NeoX's default: clipped at 1.0")
    return value is None or value.number(0, 1e12) > 0


def _checkpointing(keys: Keys, layers: int) -> Checkpointing:
    """Blocks in chunks of ``checkpoint_num_layers``.

    Chunks are counted from the embeddings, and one is checkpointed if there is nothing else than blocks in it
    (``init_specs`` of ``GPT2ModelPipe`` in megatron/model/gpt2_model.py; ``_is_checkpointable`` and
    ``forward`` of ``PipelineModule`` in deepspeed/runtime/pipe/module.py).
    """
    keys.note("checkpointing", "checkpoint_activations", "GPT-NeoX's default: off")
    if not keys.flag("checkpoint_activations"):
        return Checkpointing()
    chunk = keys.whole("checkpoint_num_layers") or 1
    start = -BEFORE % chunk
    return Checkpointing(every=1, chunk=chunk, start=start) if start + chunk <= layers else Checkpointing()


def _last_chunk(keys: Keys, layers: int) -> tuple[Unmodelled, ...]:
    """Blocks at the end that share a chunk with what follows them are not checkpointed."""
    value = keys.get("checkpoint_num_layers")
    if value is None or not keys.flag("checkpoint_activations"):
        return ()
    chunk = value.whole()
    if not (BEFORE + layers) % chunk or -BEFORE % chunk + chunk > layers:
        return ()
    reason = "the last blocks are counted as a chunk, and are not checkpointed"
    return (placed(value, Unmodelled(reason=reason, grows=("activations",))),)


def _degrees(keys: Keys) -> tuple[Unmodelled, ...]:
    found = []
    for name in ("model_parallel_size", "pipe_parallel_size"):
        value = keys.get(name)
        if value is not None and value.whole(0) > 1:
            reason = "the model is counted whole on each GPU"
            gap = Unmodelled(reason=reason, shrinks=(*STATES, *STEP), grows=("temporaries",))
            found.append(placed(value, gap))
    return tuple(found)


def _gradients(keys: Keys) -> tuple[Unmodelled, ...]:
    value = keys.get("data_types.grad_accum_dtype")
    if value is None:
        return ()
    return (
        placed(value, Unmodelled(reason="gradients are counted in the model's dtype", grows=("gradients",))),
    )


def _saving(keys: Keys) -> Saving:
    limit = keys.get("keep_last_n_checkpoints")
    keys.note("saving.kept", limit, "GPT-NeoX's default: all checkpoints are kept; counted as one")
    return Saving(kept=1 if limit is None else limit.whole(1, 2**20))


def _eight_bit(keys: Keys, workload: Workload) -> Workload:
    """``use_bnb_optimizer``: bitsandbytes' Adam in 8 bits (``get_optimizer`` in megatron/training.py)."""
    value = keys.get("use_bnb_optimizer")
    if value is None or not value.flag():
        return workload
    keys.note("optimizer.name", value)
    return workload.changed("optimizer.name", "adamw_8bit").changed("optimizer.implementation", "for_loop")
