"""Number formats of a run: what the weights are kept in, and what the forward pass computes in."""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.dialects.trainer.arguments import Arguments
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype

WHY = "the Trainer runs the forward pass under autocast"


def mixed(keys: Keys, arguments: Arguments) -> Dtype | None:
    """The dtype of ``bf16`` or ``fp16``, None where neither is on; the origin of autocast is noted.

    Where a framework has ``bf16`` by default (TRL), ``fp16`` or ``bf16: false`` turns it off.
    """
    path = "precision.autocast"
    for names, dtype in ((arguments.bf16, Dtype.BF16), (arguments.fp16, Dtype.FP16)):
        if keys.flag(*names):
            keys.note(path, keys.get(*names), how=WHY)
            return dtype
    written = keys.get(*arguments.bf16, *arguments.fp16)
    if arguments.autocast and keys.flag(*arguments.bf16) is None:
        keys.note(path, None, f"{arguments.default}: bf16; {WHY}")
        return Dtype.BF16
    keys.note(path, written, f"{arguments.default}: no mixed precision")
    return None


def weights(
    keys: Keys, names: tuple[str, ...], shape: Architecture, default: Dtype | None, says: str
) -> Dtype:
    """The dtype that the model is loaded in, from a key that takes ``auto`` or a dtype.

    ``auto`` is that of the files, which ``config.json`` names; where it doesn't, bf16 is taken for usual.
    ``default`` holds when nothing is written (None: as ``auto``), and ``says`` why.
    """
    path = "precision.params"
    value = keys.get(*names)
    if value is not None and value.written() not in ("auto", "None"):
        keys.note(path, value)
        return value.dtype()
    if value is None and default is not None:
        keys.note(path, None, says)
        return default
    found = published(shape)
    if found is not None:
        keys.note(
            path, value, f"{says}: the dtype of the model's files", how="the dtype of the model's files"
        )
        return found
    keys.origins[path] = Origin(how="assumed", note="the model's config names no dtype; bf16 is usual")
    return Dtype.BF16


def published(shape: Architecture) -> Dtype | None:
    """The dtype of the model's files, which its ``config.json`` names."""
    named = shape.config.get("dtype", shape.config.get("torch_dtype"))
    try:
        return Dtype.parse(named) if isinstance(named, str) else None
    except ValueError:
        return None
