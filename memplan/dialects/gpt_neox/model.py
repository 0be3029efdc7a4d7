"""The model a GPT-NeoX config describes, in the terms of Hugging Face's ``config.json``.

Gated MLPs with RMSNorm are Llama's, the others GPT-NeoX's own, of which transformers has a copy each.
"""

from __future__ import annotations

from typing import Any

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Intake
from memplan.documents.tree import MappingNode, Node, ScalarNode, SequenceNode, scalars
from memplan.domain.architecture import Architecture
from memplan.domain.errors import Location
from memplan.domain.workload import Attention, Unmodelled

GATED = ("swiglu", "geglu", "reglu", "bilinear", "glu")
_INNER = {"swiglu": "silu", "geglu": "gelu"}
_RECURRENT = ("mamba", "rwkv", "gmlp", "amlp")
_FLASH = "flash"

_VOCABULARIES = {
    "GPT2BPETokenizer": 50257,
    "HFGPT2Tokenizer": 50257,
    "CharLevelTokenizer": 512,
    "HFTokenizer": 50277,
    "SPMTokenizer": 32000,
    "TiktokenTokenizer": 100277,
}
"""Tokens by ``tokenizer_type``. Of the last three a file decides: counted is the one used most (that of
GPT-NeoX-20B, of Llama, cl100k_base)."""

_FILES = ("HFTokenizer", "SPMTokenizer", "TiktokenTokenizer")
_SIZED = ("embeddings", "decoder_matrix", "logits_and_loss")
_KEYS = {
    "num_hidden_layers": "num_layers",
    "num_key_value_heads": "num_kv_heads",
    "vocab_size": "tokenizer_type",
    "rotary_pct": "rotary_pct",
    "hidden_act": "activation",
    "max_position_embeddings": "max_position_embeddings",
}
"""Where a field of ``config.json`` stands in GPT-NeoX's file, if not under its own name."""


def simulated(root: MappingNode) -> bool:
    """Whether the run trains a transformer on tokens: no mixture, recurrence, reward or reference model."""
    experts, kind = root.get("moe_num_experts"), root.get("train_impl")
    mixture = isinstance(experts, ScalarNode) and isinstance(experts.value, int) and experts.value > 1
    ordinary = not isinstance(kind, ScalarNode) or kind.value in (None, "normal")
    return ordinary and not mixture and not any(word in _RECURRENT for word in _words(root))


def architecture(keys: Keys, intake: Intake) -> Architecture:
    """The dimensions, with the vocabulary padded as ``_vocab_size_with_padding`` does.

    Raises:
        FieldError: a value is missing, has the wrong type or range, or the heads do not divide.
    """
    activation = keys.word("activation") or "gelu"
    gated = activation in GATED
    hidden, layers = keys.whole("hidden_size"), keys.whole("num_layers")
    heads, length = keys.whole("num_attention_heads"), keys.whole("max_position_embeddings", "seq_length")
    for name, found in (("hidden_size", hidden), ("num_layers", layers), ("num_attention_heads", heads)):
        if found is None:
            raise keys.root.fail(f"{name} is missing", expected=f"{name}: a number")
    config: dict[str, Any] = {
        "model_type": "llama" if gated else "gpt_neox",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": _inner(keys, hidden or 1, gated=gated),
        "max_position_embeddings": length or 2048,
        "vocab_size": _vocabulary(keys),
        "tie_word_embeddings": not keys.flag("no_weight_tying"),
        "attention_bias": keys.flag("use_bias_in_attn_linear") is not False,
        "hidden_act": _INNER.get(activation, activation),
        "attention_dropout": _rate(keys, "attention_dropout"),
    }
    if gated:
        config["num_key_value_heads"] = keys.whole("num_kv_heads") or heads
        config["mlp_bias"] = keys.flag("use_bias_in_mlp") is not False
    else:
        config["hidden_dropout"] = _rate(keys, "hidden_dropout")
        config["use_parallel_residual"] = bool(keys.flag("gpt_j_residual"))
        config["rotary_pct"] = _rate(keys, "rotary_pct", 1.0)

    def where(key: str) -> Location:
        value = keys.get(_KEYS.get(key, key))
        return (value or keys.root).location

    keys.note("model", "num_layers")
    return intake.models.architecture(config, where)


def attention(keys: Keys) -> Attention:
    """``attention_config``: flash attention, or PyTorch operators one by one, which is the default."""
    value = keys.get("attention_config")
    keys.note("attention", value, "GPT-NeoX's default: global, without flash attention")
    words = _words(keys.root.node)
    if words and all(word == _FLASH for word in words):
        return Attention.FLASH_ATTENTION_2
    if value is not None and set(words) - {_FLASH, "global"}:
        keys.warn(value, f"{', '.join(sorted(set(words)))}: counted like global attention")
    return Attention.EAGER


def vocabulary_gap(keys: Keys) -> tuple[Unmodelled, ...]:
    """What another file's tokenizer may add."""
    kind = keys.get("tokenizer_type")
    if kind is None or kind.word() not in _FILES:
        return ()
    place = f"{kind.source.path}:{kind.location.line}"
    reason = (
        f"{place}: tokenizer_type: the vocabulary is in a file of its own, and may be larger than counted"
    )
    return (Unmodelled(reason=reason, grows=_SIZED),)


def _words(root: Node) -> list[str]:
    """Kinds of attention or of what stands in for it."""
    found = root.get("attention_config") if isinstance(root, MappingNode) else None
    if not isinstance(found, SequenceNode):
        return []
    return [str(node.value) for node in scalars(found) if isinstance(node.value, str) and node.value != "all"]


def _inner(keys: Keys, hidden: int, *, gated: bool) -> int:
    """The inner width of ``ParallelMLP``, where gated MLPs get as many parameters as others."""
    share = keys.get("expansion_factor")
    width = keys.whole("intermediate_size") or int((share.number(0, 1e6) if share else 4) * hidden)
    if gated:
        width = int(width * 2 / 3) // 2
    multiple = keys.whole("mlp_multiple_of") or 1
    return multiple * -(-width // multiple)


def _vocabulary(keys: Keys) -> int:
    kind = keys.get("tokenizer_type")
    name = kind.choice(tuple(_VOCABULARIES)) if kind is not None else "GPT2BPETokenizer"
    multiple = (keys.whole("make_vocab_size_divisible_by") or 128) * (keys.whole("model_parallel_size") or 1)
    found = multiple * -(-_VOCABULARIES[name] // multiple)
    keys.warnings.append(
        f"{keys.root.source.path}: vocabulary counted as {found:,}, that of {name}; "
        "the run's tokenizer may say otherwise"
    )
    return found


def _rate(keys: Keys, name: str, default: float = 0.0) -> float:
    value = keys.get(name)
    return default if value is None else value.number(0, 1)
