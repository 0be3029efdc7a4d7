"""What an ms-swift file says about memory."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects import trainer
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.models import required_mapping
from memplan.dialects.ms_swift import gaps, generation, worlds
from memplan.dialects.ms_swift.vocabulary import ARGUMENTS, GLOBAL, LORA, TUNER
from memplan.dialects.reading import Document, Intake, Reading
from memplan.dialects.trainer import adapting, pairs, rollouts
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.trainer.read import BALANCED
from memplan.dialects.trainer.uncut import whole_context
from memplan.domain.adapting import Adapting
from memplan.domain.allocator import AllocatorOptions
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.workload import Adapter, Batch, Evaluation, Quantization, Sequence, Workload

CONTRASTED = "the loss compares the texts of each micro-batch with one another"
COMPLETION = 512
"""``max_completion_length`` of ``RLHFArguments``."""

ALLOCATOR = ("ENV.PYTORCH_CUDA_ALLOC_CONF", "ENV.PYTORCH_ALLOC_CONF")


def read(document: Document, intake: Intake) -> Reading:
    """The training run, or the generation, that an ms-swift file describes.

    Raises:
        UnknownNameError: the model is neither known nor a local directory.
        FieldError: a value that decides memory has the wrong type or range, or another engine answers.
    """
    root = required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root, lenient=True)
    gaps.check(keys)
    if generation.generates(keys):
        return generation.read(document, keys, intake)
    shape = trainer.named(keys, ("model",), document.path.parent, intake)
    params = trainer.weights(keys, ("torch_dtype",), shape, None, "ms-swift's default")
    adapter = _adapter(keys, shape)
    model = trainer.Model(
        shape=shape,
        params=params,
        adapter=adapter,
        quantization=_quantization(keys, params),
        loading="direct",
        adapting=_adapting(keys, shape, params),
    )
    run = trainer.workload(keys, arguments(keys, intake.given.gpus), model)
    run = replace(
        run,
        precision=replace(run.precision, autocast=_autocast(keys, params)),
        batch=_batch(keys, run.batch, intake.given.gpus),
        sequence=_sequence(keys, shape, run.sequence),
        evaluation=_evaluation(keys),
        allocator=_allocator(keys),
    )
    run = replace(run, unmodelled=(*run.unmodelled, *gaps.unmodelled(keys, run)))
    run = pairs.doubled(run) if keys.word("rlhf_type") in gaps.PAIRED else run
    return _compared(keys, _reading(document, keys, worlds.under_fsdp(keys, run), intake))


def arguments(keys: Keys, gpus: int | None) -> Arguments:
    """The vocabulary, with checkpointing of the newer kind where several GPUs share no states."""
    alone = keys.get("deepspeed") is None and keys.get("fsdp") is None
    return replace(ARGUMENTS, reentrant=not (alone and (gpus or 1) > 1))


def _reading(document: Document, keys: Keys, run: Workload, intake: Intake) -> Reading:
    """A config that ms-swift brings is not looked for; experts are balanced only if asked for."""
    weight = keys.get("router_aux_loss_coef")
    asked = weight is not None and weight.written().strip("0.") != ""
    value = worlds.named(keys)
    if value is None:
        return trainer.reading(document, keys, "ms_swift", run, intake, balanced=asked)
    balanced = asked and isinstance(run.model, Architecture) and run.model.mixture is not None
    run = worlds.under_deepspeed(keys, run, value)
    return keys.reading(document, "ms_swift", run, Harm.BEHAVIOUR if balanced else None, BALANCED)


def _adapter(keys: Keys, shape: Architecture) -> Adapter | None:
    """LoRA unless ``tuner_type`` is full; fp32 as PEFT casts it, or the dtype asked for.

    Other tuners are counted as LoRA (``gaps``).
    """
    kind, dtype = keys.get(*TUNER), keys.get("lora_dtype")
    usual = "lora" if keys.get(*gaps.MEGATRON) is None else "full"
    keys.note("adapter", kind, f"ms-swift's default: {usual}")
    word = usual if kind is None else kind.word()
    if word == "full":
        return None
    return trainer.lora(keys, LORA, shape, Dtype.FP32 if dtype is None else dtype.dtype())


def _adapting(keys: Keys, shape: Architecture, params: Dtype) -> Adapting | None:
    """LoRA, or LoRA over 4-bit weights that compute in what the run computes in."""
    dtype = keys.get("lora_dtype")
    if (keys.word(*TUNER) or "lora") not in ("lora", "full") or keys.get(*gaps.MEGATRON) is not None:
        return None
    found = adapting.plain(keys, LORA, shape, Dtype.FP32 if dtype is None else dtype.dtype())
    if found is None:
        return None
    compute = params if params.is_half else _autocast(adapting.aside(keys), params) or params
    return Adapting(plain=found, params=params, quantized=found, quantization=adapting.four_bits(compute))


def _quantization(keys: Keys, params: Dtype) -> Quantization | None:
    """bitsandbytes, computing in bf16 for weights in bf16 and in fp32 for others (``QuantizeArguments``)."""
    method, bits = keys.get("quant_method"), keys.get("quant_bits")
    keys.note("quantization", method or bits, "ms-swift's default: none")
    if method is None or method.word() != "bnb":
        return None
    width = keys.whole("quant_bits")
    if width not in (4, 8):
        raise (bits or method).fail("bitsandbytes has 4 or 8 bits", expected="quant_bits: 4 or 8")
    form, compute = keys.get("bnb_4bit_quant_type"), keys.get("bnb_4bit_compute_dtype")
    four = "nf4" if form is None else form.choice(("nf4", "fp4"))
    usual = Dtype.BF16 if params is Dtype.BF16 else Dtype.FP32
    return Quantization(
        kind="int8" if width == 8 else four,
        double=width == 4 and keys.flag("bnb_4bit_use_double_quant") is not False,
        compute=usual if compute is None else compute.dtype(),
    )


def _autocast(keys: Keys, params: Dtype) -> Dtype | None:
    """bf16 for weights in bf16, fp16 for others, unless said otherwise (``_init_mixed_precision``)."""
    usual = Dtype.BF16 if params is Dtype.BF16 else Dtype.FP16
    for key, dtype in (("fp16", Dtype.FP16), ("bf16", Dtype.BF16)):
        on = keys.flag(key)
        if on or (on is None and usual is dtype):
            note = f"ms-swift's default: {usual} for weights in {params}"
            keys.note("precision.autocast", keys.get(key), note)
            return dtype
    keys.note("precision.autocast", keys.get("bf16", "fp16"))
    return None


def _batch(keys: Keys, found: Batch, gpus: int | None) -> Batch:
    """Without ``gradient_accumulation_steps`` as many as make 16 sequences a step on all GPUs."""
    if keys.get(*ARGUMENTS.accumulation) is not None:
        return found
    once, total = found.micro * (gpus or 1), keys.get("global_batch_size")
    note = f"ms-swift's default: {GLOBAL} sequences a step, rounded up"
    keys.note("batch.accumulation", total, note, how="global_batch_size over micro_batch_size and GPUs")
    return replace(found, accumulation=max(1, -(-(keys.whole("global_batch_size") or GLOBAL) // once)))


def _sequence(keys: Keys, shape: Architecture, found: Sequence) -> Sequence:
    """Without ``max_length`` the model's context is the limit; GRPO's completions come after a prompt."""
    length = keys.get(*ARGUMENTS.length)
    found = found if length is not None else whole_context(keys, shape, "max_length", found)
    if keys.word("rlhf_type") != "grpo" or length is None:
        return found
    return Sequence(length=found.length + (keys.whole("max_completion_length") or COMPLETION))


def _evaluation(keys: Keys) -> Evaluation | None:
    """If something is held out, whenever a checkpoint is saved (``_init_eval_strategy``)."""
    share, strategy = keys.get("split_dataset_ratio"), keys.get("eval_strategy", "save_strategy")
    held_out = keys.get("val_dataset") is not None or (
        share is not None and share.written().strip("0.") != ""
    )
    if not held_out or (strategy is not None and strategy.written() in ("no", "False")):
        return None
    batch = keys.whole(*ARGUMENTS.evaluated)
    keys.note("evaluation", keys.get(*ARGUMENTS.evaluated), "ms-swift's default: 1")
    return Evaluation(batch=batch or ARGUMENTS.evaluated_default)


def _allocator(keys: Keys) -> AllocatorOptions:
    """What the section ``ENV`` puts into the environment."""
    value = keys.get(*ALLOCATOR)
    keys.note("allocator", value, "PyTorch's default")
    try:
        return AllocatorOptions() if value is None else AllocatorOptions.parse(value.word())
    except ValueError as error:
        raise (value or keys.root).fail(
            str(error), expected="options such as expandable_segments:True"
        ) from None


def _compared(keys: Keys, reading: Reading) -> Reading:
    """The reading with what another micro-batch does to losses that compare answers of one."""
    task = keys.word("task_type")
    if keys.word("rlhf_type") == "grpo":
        worse, why = rollouts.harm(keys.word("loss_type") or "grpo")
    elif task in ("embedding", "reranker", "generative_reranker"):
        worse, why = Harm.BEHAVIOUR, CONTRASTED
    else:
        return reading
    return reading if reading.batch_harm is not None else replace(reading, batch_harm=worse, batch_reason=why)
