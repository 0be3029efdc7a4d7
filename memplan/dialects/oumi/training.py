"""What a config of ``oumi train`` says about memory."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects import trainer
from memplan.dialects.keys import Keys
from memplan.dialects.oumi import gaps, rollouts
from memplan.dialects.oumi.feeding import fed
from memplan.dialects.oumi.vocabulary import ARGUMENTS, LORA, PAST, arguments
from memplan.dialects.oumi.worlds import spread
from memplan.dialects.reading import Document, Intake, Reading
from memplan.dialects.trainer import adapting, pairs
from memplan.dialects.trainer import rollouts as grpo
from memplan.dialects.trainer.read import BALANCED
from memplan.dialects.trainer.uncut import whole_context
from memplan.domain.adapting import Adapting
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.host import Saving
from memplan.domain.workload import (
    Adapter,
    Checkpointing,
    Optimizer,
    Outputs,
    Quantization,
    Sequence,
    Workload,
)

_HALVES = {"bf16": Dtype.BF16, "fp16": Dtype.FP16, "none": None}


def read(document: Document, keys: Keys, intake: Intake) -> Reading:
    """The training run that a config describes.

    Raises:
        UnknownNameError, FieldError: as in ``memplan.dialects.oumi.read``.
    """
    kind = trainer_type(keys)
    shape = trainer.named(keys, ("model.model_name",), document.path.parent, intake)
    quantized = _quantization(keys)
    params = trainer.weights(keys, ("model.torch_dtype_str",), shape, None, "oumi's default: auto")
    model = trainer.Model(
        shape=shape,
        params=params,
        adapter=_adapter(keys, shape, quantized, params),
        quantization=quantized,
        loading="mapped" if keys.flag("fsdp.enable_fsdp") else "direct",
        adapting=_adapting(keys, shape, params),
    )
    run = trainer.workload(keys, arguments(kind), model)
    run = _mixed(
        keys, replace(run, sequence=_sequence(keys, shape, run.sequence, kind), saving=_saving(keys, run))
    )
    run = replace(run, optimizer=_optimizer(keys, run.optimizer, kind), checkpointing=_recomputed(keys, run))
    run = fed(keys, spread(keys, run, kind), intake.given.gpus)
    run = replace(run, unmodelled=(*run.unmodelled, *gaps.unmodelled(keys, kind, run)))
    if kind == "oumi":
        run = replace(run, outputs=Outputs.KEPT)
    if kind == "trl_dpo":
        run = pairs.doubled(run)
    return _reading(document, keys, run, kind)


def trainer_type(keys: Keys) -> str:
    """The loop that trains, in small letters; ``HF`` unless said otherwise.

    Raises:
        FieldError: oumi has no such trainer.
    """
    value = keys.get("training.trainer_type")
    keys.note("task", value, "oumi's default: the Trainer of transformers")
    word = "hf" if value is None else value.written().lower()
    if value is not None and word not in gaps.TRAINERS:
        raise value.fail(
            f"{value.described()} is no trainer of oumi", expected=", ".join(gaps.TRAINERS).upper()
        )
    return word


def _reading(document: Document, keys: Keys, run: Workload, kind: str) -> Reading:
    shape = run.model
    balanced = isinstance(shape, Architecture) and shape.mixture is not None
    balanced = balanced and bool(getattr(shape, "config", {}).get("output_router_logits"))
    worse, why = (Harm.BEHAVIOUR, BALANCED) if balanced else (None, "")
    if kind in rollouts.KINDS and not balanced:
        worse, why = grpo.harm(keys.word(f"{PAST}.loss_type") or "dapo")
    return keys.reading(document, "oumi", run, worse, why)


def _adapter(
    keys: Keys, shape: Architecture, quantized: Quantization | None, params: Dtype
) -> Adapter | None:
    """LoRA in fp32 (PEFT casts it); quantized models are prepared by PEFT (``build_peft_model``).

    Under FSDP a quantized model and its adapter then get the model's dtype (``coerce_model_to_dtype``).
    """
    loaded = keys.get("model.adapter_model")
    if loaded is not None:
        keys.warn(loaded, "the adapter that is loaded first is not counted")
    keys.note("adapter", "training.use_peft", "oumi's default: none, all parameters are trained")
    if not keys.flag("training.use_peft"):
        return None
    found = trainer.lora(keys, LORA, shape)
    if quantized is None:
        return found
    if keys.flag("fsdp.enable_fsdp"):
        return replace(found, dtype=params)
    return replace(found, prepare_kbit=True)


def _adapting(keys: Keys, shape: Architecture, params: Dtype) -> Adapting | None:
    """LoRA, or LoRA over 4-bit weights that compute in what the run computes in.

    Nothing is said of runs under FSDP, which wraps adapters in another way.
    """
    found = adapting.plain(keys, LORA, shape)
    if found is None or keys.flag("fsdp.enable_fsdp"):
        return None
    value = keys.get("training.mixed_precision_dtype")
    mixed = _HALVES.get(value.written().lower()) if value is not None else None
    return Adapting(
        plain=found,
        params=params,
        quantized=replace(found, prepare_kbit=True),
        quantization=adapting.four_bits(mixed or params),
    )


def _quantization(keys: Keys) -> Quantization | None:
    """bitsandbytes for ``peft.q_lora``, which counts only with ``training.use_peft``.

    oumi's defaults are those of ``BitsAndBytesConfig``: fp4, computing in fp32.
    """
    value, bits = keys.get("peft.q_lora"), keys.get("peft.q_lora_bits")
    keys.note("quantization", value, "oumi's default: none")
    if value is None or not keys.flag("peft.q_lora"):
        return None
    if not keys.flag("training.use_peft"):
        keys.warn(value, "peft.q_lora counts only with training.use_peft; nothing is quantized")
        return None
    width = keys.whole("peft.q_lora_bits") or 4
    if bits is not None and width not in (4, 8):
        raise bits.fail(f"{width} bits are nothing bitsandbytes has", expected="4 or 8")
    form, compute = keys.get("peft.bnb_4bit_quant_type"), keys.get("peft.bnb_4bit_compute_dtype")
    four = "fp4" if form is None else form.choice(("nf4", "fp4"))
    return Quantization(
        kind="int8" if width == 8 else four,
        double=width == 4 and bool(keys.flag("peft.use_bnb_nested_quant")),
        compute=Dtype.FP32 if compute is None else compute.dtype(),
    )


def _mixed(keys: Keys, run: Workload) -> Workload:
    """``training.mixed_precision_dtype``, for weights in fp32 only."""
    value = keys.get("training.mixed_precision_dtype")
    if value is None:
        return run
    dtype = _HALVES.get(value.written().lower())
    keys.note("precision.autocast", value)
    if dtype is not None and run.precision.params is not Dtype.FP32:
        raise value.fail(
            "needs weights in fp32, as oumi has it",
            expected="model.torch_dtype_str: float32, or mixed_precision_dtype: NONE",
        )
    return run.changed("precision.autocast", dtype)


def _sequence(keys: Keys, shape: Architecture, found: Sequence, kind: str) -> Sequence:
    """Without ``model_max_length`` sequences are cut at the model's context, if at all, and pairs by TRL."""
    if kind in rollouts.KINDS:
        return rollouts.sequence(keys, kind)
    if keys.get(*ARGUMENTS.length) is not None or kind in ("trl_dpo", "trl_kto"):
        return found
    return whole_context(keys, shape, "model.model_max_length", found)


def _saving(keys: Keys, run: Workload) -> Saving:
    """``save_steps: 0`` without ``save_epoch`` writes no checkpoint on the way."""
    steps = keys.get("training.save_steps")
    if steps is None or keys.flag("training.save_epoch") or keys.whole("training.save_steps", low=0):
        limit = keys.get(f"{PAST}.save_total_limit")
        kept = keys.whole(f"{PAST}.save_total_limit", low=0) if limit is not None else None
        return replace(run.saving, kept=kept or run.saving.kept)
    keys.note("saving.kept", steps)
    return Saving(kept=0)


def _optimizer(keys: Keys, found: Optimizer, kind: str) -> Optimizer:
    """``max_grad_norm: null`` clips nothing; oumi's own loop takes the fused AdamW and SGD.

    Source: ``build_optimizer`` in src/oumi/builders/optimizers.py.
    """
    if keys.has("training.max_grad_norm") and keys.get("training.max_grad_norm") is None:
        found = replace(found, clipping=False)
    if kind == "oumi" and found.name in ("adamw", "sgd"):
        found = replace(found, implementation="fused")
    return found


def _recomputed(keys: Keys, run: Workload) -> Checkpointing:
    """``use_deterministic`` switches checkpointing off (``TrainingParams.to_hf``)."""
    value = keys.get("training.use_deterministic")
    if value is None or not keys.flag("training.use_deterministic") or not run.checkpointing.every:
        return run.checkpointing
    keys.note("checkpointing", value)
    keys.warn(value, "training.use_deterministic switches checkpointing off")
    return Checkpointing()
