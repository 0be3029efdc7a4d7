"""The schema of version 1: ``micro_batch_size`` and ``global_batch_size``, and sections with a plugin's name.

Its loop is not the Trainer's: trained weights are fp32, only FSDP2 computes in bf16, and the loss comes from
logits that are copied to fp32 once more than in transformers (src/llamafactory/v1 of 0.9.5:
core/model_engine.py, core/base_trainer.py, plugins/trainer_plugins/distributed/fsdp2.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from memplan.dialects import table, trainer
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.llamafactory.gaps import not_modelled
from memplan.dialects.reading import Document, FieldChange, Intake, Origin, Reading
from memplan.dialects.table import Setting, Writer, whole, writer
from memplan.dialects.trainer import adapters, attention
from memplan.dialects.trainer.arguments import Arguments
from memplan.dialects.unmodelled import QUANTIZED, STATES, placed
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.harm import Harm
from memplan.domain.host import HostUse
from memplan.domain.workload import (
    Adapter,
    Batch,
    Checkpointing,
    Optimizer,
    Precision,
    Quantization,
    Unmodelled,
    Workload,
    World,
)
from memplan.domain.workload import (
    Sequence as Tokens,
)

SAYS = "LLaMA-Factory's default"
ARGUMENTS = Arguments(framework="LLaMA-Factory", attention=("flash_attn",))
LORA = adapters.LoraKeys(
    switch=("peft_config.name",),
    rank=("peft_config.r",),
    dropout=("peft_config.lora_dropout",),
    dropout_default=0.05,
    targets=("peft_config.target_modules",),
    targets_default=("all",),
    copied=("peft_config.modules_to_save",),
    parameters=(),
    dora=("peft_config.use_dora",),
    says=SAYS,
)
"""``get_lora_model`` in v1/plugins/model_plugins/peft.py."""

MICRO = Setting(field="batch.micro", keys=("micro_batch_size",), read=whole, default=1, says=f"{SAYS}: 1")
LENGTH = Setting(
    field="sequence.length", keys=("cutoff_len",), read=whole, default=2048, says=f"{SAYS}: 2048"
)
GLOBAL = "global_batch_size"
SWITCH = "enable_activation_checkpointing"
COPIED = Unmodelled(reason="LLaMA-Factory's version 1 copies logits to fp32 once more than counted", logits=1)
KERNELS = Unmodelled(reason="Liger's kernels keep less than counted", shrinks=("activations",))
FROZEN = Unmodelled(
    reason="only some layers are trained; all are counted",
    shrinks=("gradients", "optimizer_state", "activations"),
)
FILLED = Unmodelled(reason="batches are filled by tokens", shrinks=("activations", "logits_and_loss"))
SPLIT = Unmodelled(reason="sequences are counted whole on each GPU", shrinks=("activations",))
DEEPSPEED = Unmodelled(
    reason="counted as one GPU without DeepSpeed, whose states and buffers are others",
    shrinks=STATES,
    unbounded=True,
)
BINS = "batches are filled up to micro_batch_size x cutoff_len tokens, so other sequences meet in one"


def read(document: Document, root: Value, intake: Intake) -> Reading:
    """The training run that a file describes.

    Raises:
        UnknownNameError, FieldError: as in ``memplan.dialects.llamafactory.read``.
    """
    keys = Keys(root=root, lenient=True)
    exported = keys.get("peft_config.export_dir")
    if exported is not None:
        raise not_modelled(exported, "an export trains nothing and loads the model in host memory")
    shape = trainer.named(keys, ("model",), document.path.parent, intake)
    found = _workload(keys, shape, intake.given.gpus)
    dynamic = _dynamic(keys)
    return keys.reading(document, "llamafactory", found, Harm.BEHAVIOUR if dynamic else None, BINS)


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits."""
    return table.edits(reading, changes, WRITERS, "LLaMA-Factory's version 1")


def _workload(keys: Keys, shape: Architecture, gpus: int | None) -> Workload:
    sizes = table.settle(keys, (MICRO, LENGTH))
    kind = keys.word("peft_config.name")
    keys.note("adapter", keys.get("peft_config"), f"{SAYS}: none, all parameters are trained")
    keys.origins["task"] = Origin(how="default", note="LLaMA-Factory trains")
    spread = _world(keys)
    return Workload(
        model=shape,
        precision=Precision(params=_params(keys, shape, kind)),
        batch=Batch(micro=sizes["batch.micro"], accumulation=_accumulation(keys, gpus)),
        sequence=Tokens(length=sizes["sequence.length"]),
        optimizer=_optimizer(keys, spread.sharding),
        adapter=_adapter(keys, shape, kind),
        quantization=_quantization(keys),
        attention=attention.attention(keys, ARGUMENTS),
        checkpointing=_checkpointing(keys),
        world=spread,
        host=HostUse(loading="direct"),
        unmodelled=(COPIED, *_unmodelled(keys, kind)),
    )


def _params(keys: Keys, shape: Architecture, kind: str | None) -> Dtype:
    if kind is not None:
        return trainer.weights(keys, (), shape, None, SAYS)
    keys.origins["precision.params"] = Origin(how="default", note="LLaMA-Factory trains weights in fp32")
    return Dtype.FP32


def _adapter(keys: Keys, shape: Architecture, kind: str | None) -> Adapter | None:
    if kind is None:
        return None
    if keys.get("peft_config.name") is not None and kind not in ("lora", "freeze"):
        raise (keys.get("peft_config.name") or keys.root).fail("is no adapter", expected="lora or freeze")
    return trainer.lora(keys, LORA, shape) if kind == "lora" else None


def _optimizer(keys: Keys, sharding: str) -> Optimizer:
    """PyTorch's AdamW, whose loop is the plain one for FSDP2's tensors; gradients are clipped always."""
    given = keys.get("optim_config")
    if given is not None:
        keys.warn(given, "optim_config is not modelled; AdamW is counted")
    for path in ("optimizer.name", "optimizer.implementation", "optimizer.clipping"):
        keys.note(path, None, f"{SAYS}: AdamW, with gradients clipped")
    loop = "for_loop" if sharding == "fsdp2" else "foreach"
    return Optimizer(name="adamw", implementation=loop, clipping=True)


def _quantization(keys: Keys) -> Quantization | None:
    """bitsandbytes in 4 (the default) or 8 bits, computing in fp16 unless told otherwise."""
    section = keys.get("quant_config")
    keys.note("quantization", section, f"{SAYS}: none")
    if section is None:
        return None
    name, bits = keys.get("quant_config.name"), keys.get("quant_config.quantization_bit")
    if name is not None and name.word() not in ("bnb", "auto"):
        return None
    width = keys.whole("quant_config.quantization_bit") or 4
    if bits is not None and width not in (4, 8):
        raise bits.fail(f"{width} bits are nothing bitsandbytes has", expected="4 or 8")
    form, compute = keys.get("quant_config.quantization_type"), keys.get("quant_config.compute_dtype")
    four = "nf4" if form is None else form.choice(("nf4", "fp4"))
    return Quantization(
        kind="int8" if width == 8 else four,
        double=width == 4 and keys.flag("quant_config.double_quantization") is not False,
        compute=Dtype.FP16 if compute is None else compute.dtype(),
    )


def _checkpointing(keys: Keys) -> Checkpointing:
    keys.note("checkpointing", keys.get(SWITCH), f"{SAYS}: on")
    return Checkpointing(every=0 if keys.flag(SWITCH) is False else 1)


def _accumulation(keys: Keys, gpus: int | None) -> int:
    """What is left of the global batch for each GPU.

    Raises:
        FieldError: the global batch is no multiple of the micro-batch on all GPUs.
    """
    total = keys.get(GLOBAL)
    keys.note("batch.accumulation", total, f"{SAYS}: 1", how=f"{GLOBAL} over micro_batch_size and GPUs")
    if total is None:
        return 1
    once = (keys.whole("micro_batch_size") or 1) * (gpus or 1)
    if whole(keys, total) % once:
        raise total.fail(f"is no multiple of the {once} sequences of one pass")
    return whole(keys, total) // once


def _world(keys: Keys) -> World:
    """FSDP2 in bf16 unless ``bf16`` is false; without ``dist_config`` plain data parallelism."""
    section, name = keys.get("dist_config"), keys.get("dist_config.name")
    keys.note("world.sharding", name, f"{SAYS}: not sharded")
    keys.note("world.data_parallel", None, "counted as one GPU: the file does not say")
    if section is None or name is None:
        return World()
    if name.choice(("fsdp2", "deepspeed")) != "fsdp2":
        return World()
    if keys.flag("dist_config.offload_params"):
        keys.warn(section, "dist_config: parameters on the host are not modelled; counted on the GPU")
    keys.note("world.param_dtype", keys.get("bf16"), f"{SAYS}: bf16")
    return World(
        sharding="fsdp2",
        reshard_after_forward=keys.flag("dist_config.reshard_after_forward") is not False,
        param_dtype=Dtype.FP32 if keys.flag("bf16") is False else Dtype.BF16,
        reduce_dtype=Dtype.FP32,
    )


def _unmodelled(keys: Keys, kind: str | None) -> Iterator[Unmodelled]:
    kernels, split, section = (
        keys.get("kernel_config.name"),
        keys.get("dist_config.cp_size"),
        keys.get("peft_config"),
    )
    if kernels is not None and kernels.word() == "liger_kernel" and keys.flag(SWITCH) is False:
        yield placed(kernels, KERNELS)
    if kind == "freeze" and section is not None:
        yield placed(section, FROZEN)
    dynamic = _dynamic(keys)
    if dynamic is not None:
        yield placed(dynamic, FILLED)
    if split is not None:
        yield placed(split, SPLIT)
    for name, usual, setting in (
        ("dist_config.name", ("fsdp2",), DEEPSPEED),
        ("quant_config.name", ("bnb", "auto"), QUANTIZED),
    ):
        value = keys.get(name)
        if value is not None and value.word() not in usual:
            yield placed(value, setting)


def _dynamic(keys: Keys) -> Value | None:
    value = keys.get("batching_strategy")
    return value if value is not None and value.word().startswith("dynamic") else None


def _batch(reading: Reading, after: Workload) -> list[Edit]:
    """The micro-batch, and the global batch where it isn't the same any more."""
    before, wanted = reading.workload.batch, after.batch
    written = table.put(reading, MICRO.keys, wanted.micro, LENGTH.keys)
    kept = wanted.micro * wanted.accumulation == before.micro * before.accumulation
    stated = "batch.accumulation" in reading.origins and reading.origins["batch.accumulation"].location
    if kept and stated:
        return written
    if not stated and wanted.accumulation == 1:
        return written
    origin = reading.origins.get("world.data_parallel")
    if origin is None or origin.how != "written":
        raise EditRefusedError(f"{GLOBAL} counts the sequences of all GPUs: give --gpus N")
    total = wanted.micro * wanted.accumulation * reading.workload.world.data_parallel
    return written + table.put(reading, (GLOBAL,), total, MICRO.keys)


def _checkpoint(reading: Reading, after: Workload) -> list[Edit]:
    wanted = after.checkpointing
    if wanted == reading.workload.checkpointing:
        return []
    if wanted.partial or wanted != replace(Checkpointing(), every=wanted.every):
        raise EditRefusedError("LLaMA-Factory's version 1 checkpoints every block or none")
    return table.put(reading, (SWITCH,), bool(wanted.every), MICRO.keys)


def _attention(reading: Reading, after: Workload) -> list[Edit]:
    return attention.write(ARGUMENTS, reading, after)


WRITERS: dict[str, Writer] = {
    "batch": _batch,
    "sequence": writer(LENGTH, beside=MICRO.keys),
    "checkpointing": _checkpoint,
    "attention": _attention,
}
