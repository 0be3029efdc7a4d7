"""LoRA adapters as PEFT builds them, described by the keys of a framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin, Reading
from memplan.dialects.schema import COPIED, parameters
from memplan.dialects.table import put
from memplan.dialects.trainer.arguments import Names
from memplan.dialects.trainer.patterns import is_pattern, matching, named
from memplan.documents.tree import ScalarNode, SequenceNode
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Adapter, Workload

ALL = ("all-linear", "all_linear", "all")
"""Words for every linear layer of a block."""

_QUERY_VALUE = ("q_proj", "v_proj")
PEFT_DEFAULTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("opt", "llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3"),
        _QUERY_VALUE,
    ),
    **dict.fromkeys(("gpt_neox", "falcon", "bloom"), ("query_key_value",)),
    **dict.fromkeys(("gpt2", "gpt_bigcode"), ("c_attn",)),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
    "t5": ("q", "v"),
    "bert": ("query", "value"),
}
"""What PEFT (0.21) adapts when nobody says (``TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING`` in peft
src/peft/utils/constants.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraKeys:
    """Where a framework has an adapter's settings, and what it takes for those it isn't given.

    ``switch`` is the key that asks for an adapter by holding ``asks``; ``targets_default`` replaces PEFT's
    own (``("all",)`` for every linear layer). Without ``rank_default`` the rank is PEFT's.
    """

    switch: Names = ("use_peft",)
    asks: bool | str = True
    rank: Names = ("lora_r",)
    rank_default: int = 8
    alpha: Names = ("lora_alpha",)
    dropout: Names = ("lora_dropout",)
    dropout_default: float = 0.0
    targets: Names = ("lora_target_modules",)
    targets_default: tuple[str, ...] | None = None
    copied: Names = ("lora_modules_to_save",)
    parameters: Names = ("lora_target_parameters",)
    dora: Names = ("use_dora",)
    says: str = "PEFT's default"


def lora(keys: Keys, names: LoraKeys, shape: Architecture, dtype: Dtype = Dtype.FP32) -> Adapter:
    """The adapter the keys describe; whether there is one, the caller decides and notes.

    Raises:
        FieldError: targets cannot be resolved without the model's code, or a number is wrong.
    """
    rank = keys.whole(*names.rank)
    keys.note("adapter.rank", keys.get(*names.rank), f"{names.says}: {names.rank_default}")
    dropout = keys.get(*names.dropout)
    keys.note("adapter.dropout", dropout, f"{names.says}: {names.dropout_default}")
    named = keys.get(*names.parameters)
    keys.note("adapter.parameters", named, f"{names.says}: none")
    return Adapter(
        rank=rank or names.rank_default,
        targets=targets(keys, names, shape),
        dtype=dtype,
        dropout=names.dropout_default if dropout is None else fraction(dropout),
        dora=bool(keys.flag(*names.dora)),
        modules_to_save=_copied(keys, names),
        parameters=() if named is None else parameters(named),
    )


def targets(keys: Keys, names: LoraKeys, shape: Architecture) -> tuple[str, ...]:
    """The linear layers of a block that are adapted; the LM head is left out of "all"."""
    value = keys.get(*names.targets)
    keys.note("adapter.targets", value, names.says)
    if value is None:
        return _default(keys, names, shape)
    if isinstance(value.node, ScalarNode) and is_pattern(value.word()):
        return _in_order(matching(value, shape), shape)
    words = list(_listed(value))
    if any(word.word() in ALL for word in words):
        return shape.linears
    found = [module for word in words if (module := _module(keys, word, shape)) is not None]
    if not found:
        raise value.fail("names no linear module of a block", expected=", ".join(shape.linears))
    return _in_order(tuple(dict.fromkeys(found)), shape)


def _in_order(found: tuple[str, ...], shape: Architecture) -> tuple[str, ...]:
    return shape.linears if set(found) == set(shape.linears) else found


def fraction(value: Value) -> float:
    """A number from 0 to 1; text such as 5e-2, which PyYAML leaves as text, counts as the number."""
    node = value.node
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        try:
            number = float(node.value)
        except ValueError:
            return value.number(0, 1)
        return replace(value, node=replace(node, value=number)).number(0, 1)
    return value.number(0, 1)


def write(names: LoraKeys, reading: Reading, after: Workload) -> list[Edit]:
    """Edits for another adapter, or for one where there was none.

    Raises:
        EditRefusedError: the adapter is given up, or differs in what has no key.
    """
    adapter, before = after.adapter, reading.workload.adapter
    if adapter == before:
        return []
    if adapter is None:
        raise EditRefusedError("training all parameters instead of an adapter is a decision for a person")
    usual = expected(reading, after)
    if replace(adapter, rank=usual.rank, targets=usual.targets, dropout=usual.dropout) != usual:
        raise EditRefusedError("of an adapter its rank, targets and dropout are written")
    beside = (*names.switch, *_BESIDE)
    written: list[Edit] = []
    if before is None:
        written += put(reading, names.switch, names.asks, _BESIDE)
        written += put(reading, names.alpha, 2 * adapter.rank, beside)
        written += put(reading, names.dropout, adapter.dropout, beside)
    if before is None or adapter.rank != before.rank:
        written += put(reading, names.rank, adapter.rank, beside)
    if before is not None and adapter.dropout != before.dropout:
        written += put(reading, names.dropout, adapter.dropout, beside)
    if before is None or adapter.targets != before.targets:
        written += put(reading, names.targets, _spelled(reading, adapter), beside)
    return written


def expected(reading: Reading, after: Workload) -> Adapter:
    """The adapter that a framework makes of the file as it would then be, rank, targets and dropout aside."""
    run, habits = reading.workload, reading.workload.adapting
    over = habits.quantized if habits is not None else None
    if over is not None and after.quantization != run.quantization:
        return over
    if run.adapter is None and habits is not None:
        return habits.plain
    return run.adapter or Adapter(dtype=Dtype.FP32)


_BESIDE = ("attn_implementation", "model_name_or_path", "model")


def _spelled(reading: Reading, adapter: Adapter) -> list[str] | str:
    model = reading.workload.model
    whole = isinstance(model, Architecture) and adapter.targets == model.linears
    return "all-linear" if whole else list(adapter.targets)


def _default(keys: Keys, names: LoraKeys, shape: Architecture) -> tuple[str, ...]:
    given = names.targets_default
    if given is not None:
        found = shape.linears if given[0] in ALL else given
        keys.origins["adapter.targets"] = Origin(how="default", note=f"{names.says}: {', '.join(given)}")
        return found
    known = PEFT_DEFAULTS.get(shape.model_type, ())
    if not known or not set(known) <= set(shape.linears):
        raise keys.root.fail(
            f"{names.targets[0]} is missing, and PEFT's default for {shape.model_type} is not known",
            expected=f"a list of {', '.join(shape.linears)}",
        )
    keys.origins["adapter.targets"] = Origin(how="default", note=f"PEFT's default: {', '.join(known)}")
    return known


def _listed(value: Value) -> Iterator[Value]:
    """The words of a list, or of text with commas."""
    if isinstance(value.node, SequenceNode):
        yield from value.items()
        return
    words = value.word().split(",")
    assert isinstance(value.node, ScalarNode)  # what is no text was refused
    for word in words:
        if word.strip():
            yield replace(value, node=replace(value.node, value=word.strip()))


def _module(keys: Keys, word: Value, shape: Architecture) -> str | None:
    """The layer a word names; a warning where it names none of a block's."""
    found = named(word.word(), shape)
    if found is None:
        keys.warn(word, f"{word.word()} is not counted as adapted")
    return found


def _copied(keys: Keys, names: LoraKeys) -> tuple[str, ...]:
    """What PEFT copies and trains whole."""
    value = keys.get(*names.copied)
    keys.note("adapter.modules_to_save", value, f"{names.says}: none")
    found = []
    for item in _listed(value) if value is not None else ():
        name = item.word().rpartition(".")[2]
        if name in COPIED:
            found.append(name)
        else:
            keys.warn(item, f"the trained copy of {item.word()} is not counted")
    return tuple(dict.fromkeys(found))
