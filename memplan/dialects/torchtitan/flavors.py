"""torchtitan's models by name and flavor, in the terms of Hugging Face's ``config.json``.

Source: ``llama3_args``, ``qwen3_args``, ``deepseekv3_args`` and ``gptoss_configs`` in
torchtitan/models/*/__init__.py, and the class defaults in models/*/model/args.py (February 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BACKEND = "transformers_modeling_backend"
"""The model whose code is transformers': a hub id gives the rest of its config."""

Config = Mapping[str, Any]


def width(hidden: int, multiplier: float = 1.0, multiple: int = 256) -> int:
    """The inner width of Llama's MLP (``FeedForward`` in torchtitan/models/llama3/model/model.py)."""
    inner = int(multiplier * int(2 * 4 * hidden / 3))
    return multiple * -(-inner // multiple)


def _llama(hidden: int, layers: int, heads: int, kv: int, inner: int, vocabulary: int = 128256) -> Config:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": 131072,
    }


def _qwen(
    hidden: int, layers: int, heads: int, inner: int, *, tied: bool = False, vocabulary: int = 151936
) -> Config:
    return {
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 4096,
    }


def _qwen_moe(dense: Config, *, kv: int, experts: int, inner: int) -> Config:
    return {
        **dense,
        "model_type": "qwen3_moe",
        "num_key_value_heads": kv,
        "num_experts": experts,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": inner,
        "norm_topk_prob": True,
    }


def _deepseek(hidden: int, layers: int, heads: int, inner: int, **rest: int | bool | None) -> Config:
    return {
        "model_type": "deepseek_v3",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "intermediate_size": inner,
        "vocab_size": 102400,
        "max_position_embeddings": 16384,
        "q_lora_rank": 1536,
        "first_k_dense_replace": 1,
        "n_shared_experts": 2,
        "n_group": 1,
        "topk_group": 1,
        "norm_topk_prob": False,
        **rest,
    }


def _gpt_oss(layers: int, experts: int, hidden: int = 2880) -> Config:
    return {
        "model_type": "gpt_oss",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_local_experts": experts,
    }


_LLAMA = {
    "debugmodel": _llama(256, 6, 16, 16, width(256), 2048),
    "8B": _llama(4096, 32, 32, 8, width(4096, 1.3, 1024)),
    "70B": _llama(8192, 80, 64, 8, width(8192, 1.3, 4096)),
    "405B": _llama(16384, 126, 128, 8, width(16384, 1.2, 4096)),
}
_DEEPSEEK_DEBUG = _deepseek(
    256,
    6,
    16,
    1024,
    vocab_size=2048,
    moe_intermediate_size=256,
    n_routed_experts=8,
    num_experts_per_tok=3,
    q_lora_rank=None,
)

MODELS: Mapping[str, Mapping[str, Config]] = {
    "llama3": {
        **_LLAMA,
        "debugmodel_flex_attn": _LLAMA["debugmodel"],
        "debugmodel_varlen_attn": _LLAMA["debugmodel"],
        "8B_flex": _LLAMA["8B"],
        "8B_varlen": _LLAMA["8B"],
    },
    "qwen3": {
        "debugmodel": _qwen(256, 8, 16, 3072, tied=True, vocabulary=2048),
        "0.6B": _qwen(1024, 28, 16, 3072, tied=True),
        "1.7B": _qwen(2048, 28, 16, 6144, tied=True),
        "4B": _qwen(2560, 36, 32, 9728, tied=True),
        "8B": _qwen(4096, 36, 32, 12288),
        "14B": _qwen(5120, 40, 40, 17408),
        "32B": _qwen(5120, 64, 64, 25600),
        "debugmodel_moe": _qwen_moe(_qwen(256, 8, 16, 3072, vocabulary=2048), kv=8, experts=64, inner=768),
        "30B-A3B": _qwen_moe(_qwen(2048, 48, 32, 6144), kv=4, experts=128, inner=768),
        "235B-A22B": _qwen_moe(_qwen(4096, 94, 64, 12288), kv=4, experts=128, inner=1536),
    },
    "deepseek_v3": {
        "debugmodel": _DEEPSEEK_DEBUG,
        "debugmodel_flex_attn": _DEEPSEEK_DEBUG,
        "16B": _deepseek(
            2048,
            27,
            16,
            10944,
            moe_intermediate_size=1408,
            n_routed_experts=64,
            num_experts_per_tok=6,
            q_lora_rank=None,
        ),
        "236B": _deepseek(
            5120,
            60,
            128,
            12288,
            moe_intermediate_size=1536,
            n_routed_experts=160,
            num_experts_per_tok=6,
            n_group=8,
            topk_group=3,
        ),
        "671B": _deepseek(
            7168,
            61,
            128,
            18432,
            vocab_size=129280,
            moe_intermediate_size=2048,
            n_routed_experts=256,
            num_experts_per_tok=8,
            first_k_dense_replace=3,
            n_shared_experts=1,
            n_group=8,
            topk_group=4,
            norm_topk_prob=True,
        ),
    },
    "gpt_oss": {
        "debugmodel": _gpt_oss(4, 8, 256),
        "20b": _gpt_oss(24, 32),
        "120b": _gpt_oss(36, 128),
    },
    BACKEND: {
        "debugmodel": {
            "hidden_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
        },
        "full": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32},
    },
}
"""What every flavor adds to the class defaults of its model."""

FLEX = ("flex", "varlen", "20b", "120b", "16B", "236B", "671B")
"""Parts of the names of flavors whose attention is FlexAttention or variable-length flash attention."""
