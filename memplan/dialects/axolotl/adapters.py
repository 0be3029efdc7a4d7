"""Adapters and quantized weights in axolotl."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.keys import Keys
from memplan.dialects.trainer.adapters import LoraKeys, lora
from memplan.dialects.trainer.adapting import four_bits, plain
from memplan.domain.adapting import Adapting
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError
from memplan.domain.workload import Adapter, Quantization

LORA = LoraKeys(switch=("adapter",), dora=("peft_use_dora",))
_EVERY = "lora_target_linear"
_OTHER_BITS = ("gptq", "qat", "model_quantization_config")
"""Ways to store weights that axolotl refuses beside ``load_in_4bit`` (src/axolotl/utils/schemas)."""


def adapter(keys: Keys, shape: Architecture) -> Adapter | None:
    """The low-rank adapter of ``adapter: lora`` or ``qlora``; PEFT keeps its weights in fp32.

    ``lora_target_linear`` adapts all linear layers of a block, and leaves the LM head out.

    Raises:
        FieldError: another adapter, or targets that cannot be resolved without the model's code.
    """
    kind = keys.get("adapter")
    keys.note("adapter", "adapter", "axolotl's default: none, all parameters are trained")
    if kind is None:
        return None
    if kind.word() not in ("lora", "qlora"):
        raise kind.fail(f"{kind.described()} is not modelled", expected="lora, qlora or nothing")
    if keys.get("lora_r") is None:
        keys.warnings.append(f"{kind.source.path}: lora_r is not given; counted as {LORA.rank_default}")
    if not keys.flag(_EVERY):
        return lora(keys, LORA, shape)
    every = replace(LORA, targets_default=shape.linears)
    try:
        found = lora(keys, every, shape)
    except FieldError:
        # Names that the model lacks are those of another, and all its layers are adapted without them.
        found = lora(keys, replace(every, targets=()), shape)
    keys.note("adapter.targets", _EVERY)
    return replace(found, targets=shape.linears)


def adapting(keys: Keys, shape: Architecture, weights: Dtype) -> Adapting | None:
    """What ``adapter: lora`` and ``qlora`` would make of the run; the dtype of the weights stays."""
    found = plain(keys, LORA, shape)
    if found is None or keys.flag("load_in_4bit"):
        return None
    # Weights in 8 bits are what else the run is without bf16 and fp16: then it would be fp32.
    settled = not keys.flag("load_in_8bit") or weights is not Dtype.FP16 or keys.flag("fp16")
    return Adapting(
        plain=found,
        params=weights,
        quantized=found,
        quantization=four_bits(weights) if settled and keys.get(*_OTHER_BITS) is None else None,
    )


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
