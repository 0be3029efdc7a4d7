"""nanoGPT's ``config/*.py``: assignments that replace the variables of its train.py.

Facts come from train.py, configurator.py and model.py (November 2025). Weights and AdamW's states are
fp32, the forward pass runs under autocast, attention is PyTorch's SDPA, and nothing can be checkpointed.
The number of accumulated batches is that of all GPUs together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memplan.dialects import models, table
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, FieldChange, Intake, Origin, Reading
from memplan.dialects.table import Setting
from memplan.documents.tree import Language, MappingNode
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import EditRefusedError, Location
from memplan.domain.workload import Optimizer, Outputs, Precision, Unmodelled, Workload

NAME = "nanogpt"
_OWN = ("block_size", "n_layer", "n_embd", "init_from")
_COMMON = ("batch_size", "gradient_accumulation_steps", "learning_rate", "max_iters", "n_head", "dropout")
_SIZES = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}
"""Layers, heads and width of what ``init_from`` may name (``GPT.from_pretrained``)."""

_PUBLISHED = 50257
_PADDED = 50304
"""Sizes of the vocabulary: GPT-2's, and what a model from scratch gets when the data name none."""

_DTYPES = {"bfloat16": Dtype.BF16, "float16": Dtype.FP16, "float32": None}


def _dtype(keys: Keys, value: Value) -> Dtype | None:
    """An expression is train.py's own, which asks the GPU."""
    if value.node.fixed is not None and value.written() not in _DTYPES:
        keys.warn(value, "dtype is an expression; counted as bfloat16")
        return Dtype.BF16
    return _DTYPES[value.choice(tuple(_DTYPES))]


def _spelled(dtype: Dtype | None) -> str:
    for name, known in _DTYPES.items():
        if known is dtype:
            return name
    raise EditRefusedError(f"nanoGPT does not compute in {dtype}")


def _clips(_: Keys, value: Value) -> bool:
    return value.number(0, 1e9) != 0


_BATCH = (
    Setting(
        field="batch.micro",
        keys=("batch_size",),
        read=table.whole,
        default=12,
        says="train.py's own: 12",
    ),
    Setting(
        field="batch.accumulation",
        keys=("gradient_accumulation_steps",),
        read=table.whole,
        default=40,
        says="train.py's own: 5 * 8, over all GPUs together",
    ),
)
_SEQUENCE = Setting(
    field="sequence.length",
    keys=("block_size",),
    read=table.whole,
    default=1024,
    says="train.py's own: 1024",
)
_PRECISION = Setting(
    field="precision.autocast",
    keys=("dtype",),
    read=_dtype,
    default=Dtype.BF16,
    says="train.py's own: bfloat16 where the GPU has it, else float16",
    spell=_spelled,
)
_CLIPPING = Setting(
    field="optimizer.clipping",
    keys=("grad_clip",),
    read=_clips,
    default=True,
    says="train.py's own: gradients are clipped",
)


def _sequence(reading: Reading, after: Workload) -> list[Edit]:
    if after.sequence == reading.workload.sequence:
        return []
    raise EditRefusedError("block_size is also the number of positions that the model learns")


_WRITERS = {
    "batch": table.writer(*_BATCH, beside=("gradient_accumulation_steps", "batch_size", "block_size")),
    "sequence": _sequence,
    "precision": table.writer(_PRECISION),
}


def recognises(document: Document) -> int:
    """A Python file that assigns at least two of train.py's variables, one of which few others have."""
    root = document.root
    if not isinstance(root, MappingNode) or root.language is not Language.PYTHON:
        return 0
    own = sum(root.item(name) is not None for name in _OWN)
    common = sum(root.item(name) is not None for name in _COMMON)
    return 3 if own and own + common > 1 else 0


def read(document: Document, intake: Intake) -> Reading:
    """The training run of a config on one GPU.

    Raises:
        FieldError: a value has the wrong type or range, or the file trains nothing (``eval_only``).
    """
    root = models.required_mapping(Value(source=document.source, key="", node=document.root))
    keys = Keys(root=root)
    only = keys.get("eval_only")
    if only is not None and only.flag():
        raise only.fail("nothing is trained", expected="a config that trains")
    values = table.settle(keys, (*_BATCH, _SEQUENCE, _PRECISION, _CLIPPING))
    workload = Workload(
        model=_model(keys, intake, values["sequence.length"]),
        precision=Precision(params=Dtype.FP32),
        optimizer=Optimizer(name="adamw", implementation="fused"),
        outputs=Outputs.KEPT,
        unmodelled=_unmodelled(keys),
    )
    for field, note in _ALWAYS.items():
        keys.origins[field] = Origin(how="default", note=note)
    return keys.reading(document, NAME, table.changed(workload, values))


_ALWAYS = {
    "task": "train.py trains",
    "precision.params": "train.py keeps the weights in fp32",
    "optimizer.name": "train.py uses AdamW",
    "optimizer.implementation": "train.py uses the fused one",
    "attention": "model.py calls SDPA",
    "checkpointing": "nanoGPT has none",
    "loss": "model.py's cross-entropy",
    "outputs": "train.py binds the logits until the next step's",
}


def edits(reading: Reading, changes: Sequence[FieldChange]) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
    """Batch sizes, block size and dtype; nanoGPT has no switch for anything else that memplan changes."""
    return table.edits(reading, changes, _WRITERS, "nanoGPT")


def _model(keys: Keys, intake: Intake, length: int) -> Architecture:
    """Dimensions from the file, or those of a published GPT-2, its positions cropped to ``block_size``."""
    origin = keys.get("init_from")
    start = origin.word() if origin is not None else "scratch"
    keys.note("model", origin, "train.py's own: a model from scratch")
    config: dict[str, Any] = {"model_type": "gpt2", "activation_function": "gelu", "n_positions": length}
    if origin is not None and start not in ("scratch", "resume"):
        sizes = _SIZES[origin.choice((*_SIZES, "scratch", "resume"))]
        config |= dict(zip(("n_layer", "n_head", "n_embd"), sizes, strict=True))
        config["vocab_size"] = _PUBLISHED
    else:
        for name, default in (("n_layer", 12), ("n_head", 12), ("n_embd", 768)):
            config[name] = keys.whole(name) or default
        config["vocab_size"] = _PADDED
        keys.warnings.append(
            f"{keys.root.source.path}: vocabulary counted as {_PADDED:,}, nanoGPT's own; "
            "a meta.pkl beside the data may say otherwise"
        )
    if origin is not None and start == "resume":
        keys.warn(origin, "the checkpoint's model counts, and is taken to be the one this file describes")
    share = keys.get("dropout")
    rate = share.number(0, 1) if share is not None else 0.0
    config |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), rate)

    def where(key: str) -> Location:
        value = keys.get(key)
        return (value or keys.root).location

    return intake.models.architecture(config, where)


def _unmodelled(keys: Keys) -> tuple[Unmodelled, ...]:
    """What ``torch.compile`` makes of the model; uncompiled, it keeps what transformers' GPT-2 keeps."""
    compiled = keys.get("compile")
    if compiled is not None and not compiled.flag():
        return ()
    place = "" if compiled is None else f"{compiled.source.path}:{compiled.location.line}: "
    reason = f"{place}compile: compiled kernels keep other activations than counted"
    return (Unmodelled(reason=reason, shrinks=("activations", "logits_and_loss")),)
