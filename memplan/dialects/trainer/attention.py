"""Attention implementations by transformers' names, or a framework's words for them."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.arguments import Arguments
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Attention, Workload

LIKE_FLASH = ("flash_attention_3", "flash_attention_4", "kernels-community/")
LIKE_EFFICIENT = ("xformers", "flex_attention", "sage", "fp8")


def attention(keys: Keys, arguments: Arguments) -> Attention:
    """The kind of attention, transformers' own choice (sdpa) where nothing is said.

    Raises:
        FieldError: the name is none that is known.
    """
    value = keys.get(*arguments.attention)
    keys.note("attention", value, "transformers' default: sdpa")
    if value is None:
        return Attention.SDPA
    name = value.word().removeprefix("paged|")
    if name in arguments.implementations:
        return arguments.implementations[name]
    flash = name.startswith(LIKE_FLASH)
    if not flash and name not in LIKE_EFFICIENT:
        value.choice((*arguments.implementations, *LIKE_FLASH[:1], *LIKE_EFFICIENT))
    like = "flash_attention_2" if flash else "memory-efficient attention"
    keys.warn(value, f"{value.key}: {name} is counted like {like}")
    return Attention.FLASH_ATTENTION_2 if flash else Attention.EFFICIENT


def write(arguments: Arguments, reading: Reading, after: Workload) -> list[Edit]:
    """Edits for another kind of attention.

    Raises:
        EditRefusedError: the framework has no word for it, or the file names a kernel of its own.
    """
    if after.attention is reading.workload.attention:
        return []
    root = Value(source=reading.document.source, key="", node=reading.document.root)
    now = Keys(root=root).get(*arguments.attention)
    if now is not None and now.written() not in arguments.implementations:
        raise EditRefusedError(f"{now.key} names a kernel: {now.written()}", location=now.location)
    name = arguments.spelled(after.attention)
    if name is None:
        raise EditRefusedError(f"{arguments.framework} cannot be told to use {after.attention} attention")
    return put(reading, arguments.attention, name, beside=("model_revision", "model_name_or_path"))
