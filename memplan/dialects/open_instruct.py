"""open-instruct: Ai2's supervised fine-tuning and DPO, each a loop of its own around accelerate.

Source: open_instruct/finetune.py, dpo_tune_cache.py and dpo_utils.py (August 2026). Weights are loaded in
bf16, and launch commands ask accelerate for bf16 and DeepSpeed; neither stands in the file. DPO's reference
log-probabilities are computed before training by the model itself, so there is no second one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.dialects import models, table, trainer
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, FieldChange, Intake, Origin, Reading
from memplan.dialects.trainer import Arguments, LoraKeys, Model, pairs
from memplan.documents.tree import MappingNode
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError, ImpossibleError
from memplan.domain.harm import Harm
from memplan.domain.host import Saving
from memplan.domain.workload import Adapter, Attention, Optimizer, Quantization, Workload

NAME = "open_instruct"
_MARKS = ("use_slow_tokenizer", "with_tracking", "checkpointing_steps", "dataset_mixer_list")
_PREFERENCE = ("beta", "loss_type", "gamma_beta_ratio", "concatenated_forward")
_CLIPPING = ("clip_grad_norm", "max_grad_norm")
_KEPT = 3

ARGUMENTS = Arguments(
    framework="open-instruct", length=("max_seq_length",), length_default=2048, clipping=_CLIPPING
)
LORA = LoraKeys(
    switch=("use_lora",),
    rank=("lora_rank",),
    rank_default=64,
    dropout_default=0.1,
    targets=(),
    targets_default=("q_proj", "o_proj", "v_proj", "k_proj", "gate_proj", "up_proj", "down_proj"),
    says="open-instruct's default",
)
AVERAGED = "open-instruct averages the loss over the tokens of each micro-batch"


def recognises(document: Document) -> int:
    """``model_name_or_path`` with a key that only open-instruct's scripts have."""
    root = document.root
    if not isinstance(root, MappingNode) or root.item("model_name_or_path") is None:
        return 0
    return 4 if any(root.item(mark) for mark in _MARKS) else 0


def read(document: Document, intake: Intake) -> Reading:
    """The training run an open-instruct file describes.

    Raises:
        UnknownNameError, FileAccessError: the model is neither known nor a local directory.
        FieldError: a value that decides memory has the wrong type or range.
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root, lenient=True)
    shape = trainer.named(keys, ("model_name_or_path",), document.path.parent, intake)
    run = trainer.workload(keys, ARGUMENTS, _model(keys, shape))
    sign = keys.get(*_PREFERENCE)
    run = _assumed(keys, replace(run, optimizer=_optimizer(keys, run), saving=_saving(keys)))
    run = _pairs(keys, run, sign) if sign is not None else run
    balanced = bool(keys.flag("load_balancing_loss"))
    reading = trainer.reading(document, keys, NAME, run, intake, balanced=balanced)
    if sign is not None or reading.batch_harm is not None:
        return reading
    return replace(reading, batch_harm=Harm.NUMERIC, batch_reason=AVERAGED)


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits; a pair of completions is two sequences of a micro-batch."""
    root = reading.document.root
    pairs = isinstance(root, MappingNode) and any(root.item(name) for name in _PREFERENCE)
    every = trainer.writers(ARGUMENTS)
    written = {name: every[name] for name in ("batch", "sequence", "checkpointing", "loss")}
    written["adapter"] = _adapter
    if pairs:
        written["batch"] = _halved
    return table.edits(reading, changes, written, "open-instruct")


def _model(keys: Keys, shape: Architecture) -> Model:
    keys.note("precision.params", None, "open-instruct loads models in bf16")
    quantized = bool(keys.flag("use_qlora"))
    keys.note("quantization", "use_qlora", "open-instruct's default: none")
    keys.note("adapter", "use_lora", "open-instruct's default: none, all parameters are trained")
    adapter: Adapter | None = None
    if keys.flag("use_lora"):
        adapter = replace(trainer.lora(keys, LORA, shape), prepare_kbit=quantized)
    return Model(
        shape=shape,
        params=Dtype.BF16,
        adapter=adapter,
        quantization=Quantization(kind="nf4", double=True) if quantized else None,
        loading="direct" if quantized else "mapped",
    )


def _optimizer(keys: Keys, run: Workload) -> Optimizer:
    """Fused AdamW, or bitsandbytes' paged one with quantized weights; gradients are clipped only if asked."""
    limit = keys.get(*_CLIPPING)
    keys.note("optimizer.clipping", limit, "open-instruct's default: not clipped")
    clips = limit is not None and not limit.written().startswith("-") and limit.written().strip("0.") != ""
    if run.quantization is not None or keys.flag("dpo_use_paged_optimizer"):
        name = "paged_adamw_8bit" if keys.flag("use_8bit_optimizer") else "paged_adamw_32bit"
        return Optimizer(name=name, implementation="for_loop", clipping=clips)
    fused = keys.flag("fused_optimizer") is not False
    keys.note("optimizer.implementation", "fused_optimizer", "open-instruct's default: fused")
    return Optimizer(name="adamw", implementation="fused" if fused else "foreach", clipping=clips)


def _saving(keys: Keys) -> Saving:
    """``keep_last_n_checkpoints`` of accelerate's states, if ``checkpointing_steps`` asks for any."""
    keys.note("saving.kept", "keep_last_n_checkpoints", f"open-instruct's default: {_KEPT}")
    if keys.get("checkpointing_steps") is None:
        return Saving(kept=0)
    limit = keys.get("keep_last_n_checkpoints")
    unbounded = limit is None or limit.written().startswith("-")
    return Saving(kept=_KEPT if unbounded else keys.whole("keep_last_n_checkpoints", low=0) or 1)


def _assumed(keys: Keys, run: Workload) -> Workload:
    """What the launch command and the machine decide."""
    keys.origins["precision.autocast"] = Origin(
        how="assumed", note="launched with accelerate's --mixed_precision bf16"
    )
    keys.origins["attention"] = Origin(
        how="assumed", note="flash-attention, which is used if it is installed"
    )
    run = replace(run, attention=Attention.FLASH_ATTENTION_2)
    return run.changed("precision.autocast", Dtype.BF16)


def _pairs(keys: Keys, run: Workload, sign: Value) -> Workload:
    """Chosen and rejected completions pass through the model together."""
    keys.note("task", sign, how=f"{sign.key} is a key of DPO")
    run = replace(run, unmodelled=(*run.unmodelled, *pairs.gaps(sign, reference=False)))
    return run.changed("batch.micro", 2 * run.batch.micro)


def _halved(reading: Reading, after: Workload) -> list[Edit]:
    if after.batch.micro % 2:
        raise ImpossibleError("a pair of completions cannot be divided between two micro-batches")
    before = reading.workload.changed("batch.micro", reading.workload.batch.micro // 2)
    write = trainer.writers(ARGUMENTS)["batch"]
    return write(replace(reading, workload=before), after.changed("batch.micro", after.batch.micro // 2))


def _adapter(reading: Reading, after: Workload) -> list[Edit]:
    """Rank and dropout; what is adapted is fixed."""
    found, before = after.adapter, reading.workload.adapter
    if found is None or before is None:
        raise EditRefusedError("between an adapter and training all parameters a person decides")
    if replace(found, rank=before.rank, dropout=before.dropout) != before:
        raise EditRefusedError("open-instruct has keys for an adapter's rank and dropout")
    written: list[Edit] = []
    if found.rank != before.rank:
        written += table.put(reading, LORA.rank, found.rank, LORA.switch)
    if found.dropout != before.dropout:
        written += table.put(reading, LORA.dropout, found.dropout, LORA.switch)
    return written
