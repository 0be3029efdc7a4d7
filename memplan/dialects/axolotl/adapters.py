"""Adapters and quantized weights in axolotl."""

from __future__ import annotations

import re
from dataclasses import replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.dialects.schema import COPIED, parameters
from memplan.documents.tree import ScalarNode, SequenceNode
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Adapter, Quantization

PEFT_DEFAULT = ("q_proj", "v_proj")
"""What PEFT adapts in models that have these, when nobody says."""

PEFT_RANK = 8
_MODULE = re.compile(r"(?:self_attn\.|mlp\.)?([a-z_0-9]+)", re.ASCII)


def adapter(keys: Keys, linears: tuple[str, ...], experts: tuple[str, ...]) -> Adapter | None:
    """The low-rank adapter of ``adapter: lora`` or ``qlora``; PEFT keeps its weights in fp32.

    ``linears`` are the linear layers of a block, all of which ``lora_target_linear`` adapts (the LM head is
    left out). ``experts`` are further names that may be given: of layers that are parameters now.

    Raises:
        FieldError: another adapter, or targets that cannot be resolved without the model's code.
    """
    kind = keys.get("adapter")
    keys.note("adapter", "adapter", "axolotl's default: none, all parameters are trained")
    if kind is None:
        return None
    if kind.word() not in ("lora", "qlora"):
        raise kind.fail(f"{kind.described()} is not modelled", expected="lora, qlora or nothing")
    rank = keys.whole("lora_r")
    keys.note("adapter.rank", "lora_r", f"PEFT's default: {PEFT_RANK}")
    if rank is None:
        keys.warnings.append(f"{kind.source.path}: lora_r is not given; counted as {PEFT_RANK}")
    dropout = keys.get("lora_dropout")
    return Adapter(
        kind="lora",
        rank=rank or PEFT_RANK,
        targets=_targets(keys, linears, experts),
        dtype=Dtype.FP32,
        dropout=0.0 if dropout is None else _fraction(dropout),
        dora=bool(keys.flag("peft_use_dora")),
        modules_to_save=_copied(keys),
        parameters=_parameters(keys),
    )


def _parameters(keys: Keys) -> tuple[str, ...]:
    """``lora_target_parameters``: experts that are parameters."""
    named = keys.get("lora_target_parameters")
    keys.note("adapter.parameters", "lora_target_parameters", "PEFT's default: none")
    return () if named is None else parameters(named)


def _copied(keys: Keys) -> tuple[str, ...]:
    """``lora_modules_to_save``: what PEFT copies and trains whole."""
    named = keys.get("lora_modules_to_save")
    keys.note("adapter.modules_to_save", "lora_modules_to_save", "PEFT's default: none")
    found = []
    for item in named.items() if named is not None else ():
        name = item.word().rpartition(".")[2]
        if name in COPIED:
            found.append(name)
        else:
            place = f"{item.source.path}:{item.location.line}"
            keys.warnings.append(f"{place}: the trained copy of {item.word()} is not counted")
    return tuple(dict.fromkeys(found))


def quantization(keys: Keys, compute: Dtype) -> Quantization | None:
    """Weights that bitsandbytes stores in 4 bit (nf4, double quantization) or 8 bit.

    axolotl casts norms and embeddings back to the compute dtype afterwards, so nothing stays in fp32.
    """
    kind = keys.get("adapter")
    for key, name in (("load_in_4bit", "nf4"), ("load_in_8bit", "int8")):
        if keys.flag(key):
            keys.note("quantization", key, "")
            return Quantization(kind=name, double=name == "nf4", compute=compute)
    if kind is not None and kind.written() == "qlora":
        keys.warnings.append(f"{kind.source.path}:{kind.location.line}: adapter: qlora without load_in_4bit")
    keys.note("quantization", None, "axolotl's default: none")
    return None


def _targets(keys: Keys, linears: tuple[str, ...], experts: tuple[str, ...]) -> tuple[str, ...]:
    named = keys.get("lora_target_modules")
    found = _named(keys, named, linears, experts) if named is not None else ()
    if keys.flag("lora_target_linear"):
        keys.note("adapter.targets", "lora_target_linear", "")
        return linears
    if named is None:
        if not set(PEFT_DEFAULT) <= set(linears):
            raise keys.root.fail(
                "lora_target_modules is missing, and PEFT's default for this model is not known",
                expected=f"a list of {', '.join(linears)}",
            )
        keys.origins["adapter.targets"] = Origin(how="default", note="PEFT's default: q_proj, v_proj")
        return PEFT_DEFAULT
    keys.note("adapter.targets", "lora_target_modules", "")
    if not found:
        raise named.fail("names no linear module of a block", expected=", ".join(linears))
    return linears if set(found) == set(linears) else found


def _named(keys: Keys, value: Value, linears: tuple[str, ...], experts: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value.node, SequenceNode):
        if value.word() == "all-linear":
            return linears
        raise value.fail(
            "is a pattern, which memplan does not match", expected=f"a list of {', '.join(linears)}"
        )
    found: list[str] = []
    for item in value.items():
        match = _MODULE.fullmatch(item.word())
        if match is None:
            raise item.fail("is a pattern, which memplan does not match", expected=", ".join(linears))
        if match[1] not in (*linears, *experts):
            keys.warnings.append(
                f"{item.source.path}:{item.location.line}: {item.word()} is not counted as adapted"
            )
        elif match[1] not in found:
            found.append(match[1])
    return tuple(found)


def _fraction(value: Value) -> float:
    """A number from 0 to 1; text such as 5e-2, which PyYAML leaves as text, counts as pydantic reads it."""
    node = value.node
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        try:
            number = float(node.value)
        except ValueError:
            return value.number(0, 1)
        return Value(source=value.source, key=value.key, node=replace(node, value=number)).number(0, 1)
    return value.number(0, 1)
