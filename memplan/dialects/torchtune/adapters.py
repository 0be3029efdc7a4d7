"""Adapters and quantized weights of torchtune's builders.

Source: ``lora_*`` in torchtune/models/*/_model_builders.py, torchtune/modules/peft/lora.py. Adapters have the
dtype of the run; ``quantize_base`` stores the linear layers of blocks as torchao's NF4 with quantized scales.
"""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.dialects.torchtune.builders import Builder
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Adapter, Quantization

ATTENTION = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "output_proj": "o_proj"}
"""``lora_attn_modules`` of torchtune, and transformers' names of the same layers."""

MLP = ("gate_proj", "up_proj", "down_proj")
HEAD = "lm_head"
PACKED = {
    "q_proj": "qkv_proj",
    "k_proj": "qkv_proj",
    "v_proj": "qkv_proj",
    "gate_proj": "gate_up_proj",
    "up_proj": "gate_up_proj",
}
"""Layers that some models publish as one; torchtune has them apart."""

RANK = 8


def adapter(keys: Keys, built: Builder, linears: tuple[str, ...], dtype: Dtype) -> Adapter | None:
    """The low-rank adapters of a ``lora_`` or ``qlora_`` builder.

    Raises:
        FieldError: nothing is adapted, or a layer is none of the four of an attention module.
    """
    model = keys.get("model._component_")
    keys.note("adapter", model)
    if not built.adapted:
        return None
    rank, dropout = keys.get("model.lora_rank"), keys.get("model.lora_dropout")
    keys.note("adapter.rank", rank, f"torchtune's default: {RANK}")
    keys.note("adapter.dropout", dropout, "torchtune's default: 0")
    keys.note("adapter.dtype", keys.get("dtype"), how="adapters have the dtype of the run")
    return Adapter(
        rank=RANK if rank is None else rank.whole(1, 2**16),
        targets=_targets(keys, linears),
        dtype=dtype,
        dropout=0.0 if dropout is None else dropout.number(0, 1),
        dora=bool(keys.flag("model.use_dora")),
    )


def quantization(keys: Keys, built: Builder, dtype: Dtype) -> Quantization | None:
    """``quantize_base``, which ``qlora_`` builders turn on."""
    asked = keys.flag("model.quantize_base")
    value = keys.get("model.quantize_base" if asked is not None else "model._component_")
    keys.note("quantization", value)
    if asked is False or not (asked or built.quantized):
        return None
    return Quantization(kind="nf4", double=True, compute=dtype, readers=0)


def _targets(keys: Keys, linears: tuple[str, ...]) -> tuple[str, ...]:
    named = keys.get("model.lora_attn_modules")
    keys.note("adapter.targets", named, "only what apply_lora_to_mlp and apply_lora_to_output say")
    found = [ATTENTION[item.choice(ATTENTION)] for item in named.items()] if named is not None else []
    if keys.flag("model.apply_lora_to_mlp"):
        found += MLP
    if keys.flag("model.apply_lora_to_output"):
        found.append(HEAD)
    if not found:
        place = named or keys.get("model._component_") or keys.root
        raise place.fail("adapts nothing", expected="lora_attn_modules: ['q_proj', 'v_proj']")
    names = [PACKED.get(name, name) if name not in (*linears, HEAD) else name for name in found]
    return tuple(dict.fromkeys(names))
