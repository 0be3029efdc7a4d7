"""The schema everybody has files of: ``stage``, ``finetuning_type``, ``template`` and the Trainer's keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.dialects import table, trainer
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.llamafactory import gaps, write
from memplan.dialects.llamafactory.generation import generation
from memplan.dialects.llamafactory.vocabulary import ARGUMENTS, LORA, OFT, OFT_BLOCK
from memplan.dialects.reading import Document, FieldChange, Intake, Reading
from memplan.dialects.trainer import adapting, pairs
from memplan.dialects.trainer.precision import published
from memplan.documents.tree import MappingNode, Node, ScalarNode
from memplan.domain.adapting import Adapting
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Advice, Edit
from memplan.domain.workload import (
    Adapter,
    Attention,
    Checkpointing,
    Loss,
    Optimizer,
    Quantization,
    Workload,
)

FULL_ONLY = ("use_galore", "use_apollo", "use_badam")
"""What LLaMA-Factory refuses to combine with LoRA (``FinetuningArguments.__post_init__``)."""

_NO_TRAINING = "LLaMA-Factory trains nothing with this file unless do_train is true; counted is its training"


def read(document: Document, root: Value, intake: Intake) -> Reading:
    """The run that a file describes: training, or generation where nothing is trained.

    Raises:
        UnknownNameError, FieldError: as in ``memplan.dialects.llamafactory.read``.
    """
    keys = Keys(root=root, lenient=True)
    exported = keys.get("export_dir")
    if exported is not None:
        raise gaps.not_modelled(exported, "an export trains nothing and loads the model in host memory")
    gaps.check(keys)
    shape = trainer.named(keys, ("model_name_or_path",), document.path.parent, intake)
    generates = keys.get("infer_backend") is not None
    run = generation(keys, shape) if generates else _training(keys, shape)
    balanced = keys.get("moe_aux_loss_coef") is not None
    return trainer.reading(document, keys, "llamafactory", run, intake, balanced=balanced)


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """The changes as edits."""
    stage = _stage(reading.document.root)
    writers = write.IN_PAIRS if stage in gaps.PAIRED else write.WRITERS
    if stage not in (None, "pt", "sft"):
        writers = {name: found for name, found in writers.items() if name != "loss"}
    return table.edits(reading, changes, writers, "LLaMA-Factory")


def _training(keys: Keys, shape: Architecture) -> Workload:
    if not keys.flag("do_train"):
        keys.warnings.append(f"{keys.root.source.path}: {_NO_TRAINING}")
    kind = keys.word("finetuning_type") or "lora"
    params = _params(keys, shape, kind)
    model = trainer.Model(
        shape=shape,
        params=params,
        adapter=_adapter(keys, shape, kind),
        quantization=_quantization(keys, shape),
        loading="direct",
        adapting=_adapting(keys, shape, kind),
    )
    run = trainer.workload(keys, ARGUMENTS, model)
    neat = bool(keys.flag("neat_packing"))
    run = replace(
        run,
        checkpointing=_checkpointing(keys, run.checkpointing),
        optimizer=_optimizer(keys, run.optimizer),
        causal_mask=neat and run.attention is not Attention.FLASH_ATTENTION_2,
        unmodelled=(*run.unmodelled, *gaps.unmodelled(keys, run)),
    )
    return _staged(run, keys.word("stage"))


def _staged(run: Workload, stage: str | None) -> Workload:
    """Pairs are two sequences; losses of log-probabilities and rewards take whole logits.

    Source: ``concatenated_forward`` in train/dpo/trainer.py. Liger's loss is left out (``require_logits``).
    """
    run = run if stage in (None, "pt", "sft") else replace(run, loss=Loss())
    return pairs.doubled(run) if stage in gaps.PAIRED else run


def _stage(root: Node) -> object:
    stage = root.get("stage") if isinstance(root, MappingNode) else None
    return stage.value if isinstance(stage, ScalarNode) else None


def _params(keys: Keys, shape: Architecture, kind: str) -> Dtype:
    """Frozen weights keep the dtype of the files; what is trained becomes fp32 unless ``pure_bf16``.

    Source: ``load_model`` in src/llamafactory/model/loader.py (``torch_dtype`` is auto) and ``init_adapter``
    in model/adapter.py. Under ZeRO-3 nothing is cast, but DeepSpeed then has a dtype of its own.
    """
    files = trainer.weights(keys, (), shape, None, "LLaMA-Factory's default")
    pure = keys.get("pure_bf16")
    if kind in ("lora", "oft") or keys.flag("pure_bf16") or keys.flag("use_badam"):
        return files
    keys.note("precision.params", pure, "LLaMA-Factory makes trained parameters fp32")
    return Dtype.FP32


def _adapter(keys: Keys, shape: Architecture, kind: str) -> Adapter | None:
    """LoRA unless asked for otherwise; its weights are fp32, also with ``pure_bf16`` (PEFT casts them)."""
    keys.note("adapter", keys.get("finetuning_type"), "LLaMA-Factory's default: lora")
    if kind == "oft":
        return _rotating(keys, shape)
    if kind != "lora":
        return None
    resumed = keys.get("adapter_name_or_path")
    if resumed is not None and not keys.flag("create_new_adapter"):
        keys.warn(resumed, "training goes on with this adapter: counted are this file's rank and targets")
    return trainer.lora(keys, LORA, shape)


def _adapting(keys: Keys, shape: Architecture, kind: str) -> Adapting | None:
    """LoRA over frozen weights in the dtype of their files, or in 4 bits.

    Quantized weights go with no resized vocabulary and no adapter on an adapter (``_verify_model_args`` in
    src/llamafactory/hparams/parser.py).
    """
    full = kind == "full" and not any(keys.flag(key) for key in FULL_ONLY)
    found = adapting.plain(keys, LORA, shape) if full or kind == "lora" else None
    if found is None:
        return None
    aside, method = adapting.aside(keys), keys.get("quantization_method")
    files = trainer.weights(aside, (), shape, None, "")
    barred = any(keys.flag(key) for key in ("resize_vocab", "create_new_adapter", "pissa_init"))
    known = method is None or gaps.is_bitsandbytes(method)
    return Adapting(
        plain=found,
        params=files,
        quantized=found,
        quantization=adapting.four_bits(_computed(aside, shape)) if known and not barred else None,
    )


def _rotating(keys: Keys, shape: Architecture) -> Adapter:
    """OFT as LoRA with no fewer parameters: its rotations have half a block's rows for each input of a layer.

    Source: ``OFTRotationModule`` in peft/tuners/oft/layer.py (0.21); ``oft_rank`` counts the blocks instead.
    """
    blocks = keys.whole("oft_rank", low=0) or 0
    width = max(shape.hidden_size, shape.intermediate_size)
    rows = -(-width // blocks) if blocks else keys.whole("oft_block_size") or OFT_BLOCK
    keys.note("adapter.rank", keys.get("oft_rank", "oft_block_size"), f"LLaMA-Factory's default: {OFT_BLOCK}")
    found = trainer.lora(keys, OFT, shape)
    return replace(found, kind="oft", rank=max(1, rows // 2), dropout=0.0, dora=False)


def _quantization(keys: Keys, shape: Architecture) -> Quantization | None:
    """bitsandbytes, as the weights are loaded; nothing else is cast (model/model_utils/quantization.py).

    Raises:
        FieldError: another library, or another number of bits.
    """
    bits = keys.get("quantization_bit")
    keys.note("quantization", bits, "LLaMA-Factory's default: none")
    if bits is None:
        return None
    method = keys.get("quantization_method")
    if method is not None and not gaps.is_bitsandbytes(method):
        return None
    width = keys.whole("quantization_bit")
    if width not in (4, 8):
        raise bits.fail(f"{width} bits are nothing bitsandbytes has", expected="4 or 8")
    form = keys.get("quantization_type")
    four = "nf4" if form is None else form.choice(("nf4", "fp4"))
    return Quantization(
        kind="int8" if width == 8 else four,
        double=width == 4 and keys.flag("double_quantization") is not False,
        compute=_computed(keys, shape),
    )


def _computed(keys: Keys, shape: Architecture) -> Dtype:
    """bf16 before fp16, as asked for; else the files' dtype where the GPU has bf16."""
    if keys.flag("bf16") or keys.flag("pure_bf16"):
        return Dtype.BF16
    if keys.flag("fp16"):
        return Dtype.FP16
    return Dtype.BF16 if published(shape) in (None, Dtype.BF16) else Dtype.FP16


def _checkpointing(keys: Keys, found: Checkpointing) -> Checkpointing:
    """Reentrant unless ``use_reentrant_gc`` is false; Unsloth's kind sends blocks' inputs to the host.

    The Trainer's own ``gradient_checkpointing`` turns it on where ``disable_gradient_checkpointing`` holds.
    Source: ``prepare_model_for_training`` in src/llamafactory/model/model_utils/checkpointing.py.
    """
    again = keys.get("gradient_checkpointing")
    if not found.every:
        if again is None or not keys.flag("gradient_checkpointing"):
            return found
        keys.note("checkpointing", again)
        return Checkpointing(
            every=1, reentrant=bool(keys.flag("gradient_checkpointing_kwargs.use_reentrant"))
        )
    if keys.flag("use_unsloth_gc"):
        return Checkpointing(every=1, reentrant=True, offload=True)
    return Checkpointing(every=1, reentrant=keys.flag("use_reentrant_gc") is not False)


def _optimizer(keys: Keys, found: Optimizer) -> Optimizer:
    """``use_muon`` comes before ``optim``."""
    if not keys.flag("use_muon"):
        return found
    for path in ("optimizer.name", "optimizer.implementation"):
        keys.note(path, keys.get("use_muon"))
    return replace(found, name="muon", implementation="for_loop")
