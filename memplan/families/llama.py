"""Llama, Mistral and Qwen2: pre-norm decoders with grouped-query attention, rotary positions and SwiGLU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families.attention_block import PROJECTIONS, Block
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder
from memplan.families.decoder_shape import decoder_shape
from memplan.families.layer_types import ByLayerType, late_windows
from memplan.simulator.blocks import Store
from memplan.simulator.tensor import Tape

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

_SHARED: dict[str, object] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
DEFAULTS: dict[str, Mapping[str, object]] = {
    "llama": _SHARED,
    "mistral": _SHARED
    | {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "qwen2": _SHARED
    | {
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
}
"""Class defaults of transformers 5.x: LlamaConfig, MistralConfig, Qwen2Config."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json`` of one of the three types.

    Raises:
        FieldError: a value has the wrong type or range, or the heads do not divide.
    """
    model_type = str(config["model_type"])
    read = Config(config, DEFAULTS[model_type], where)
    window = _sliding_window(read, model_type)
    shape = decoder_shape(read)
    return replace(
        shape,
        attention_bias=model_type == "qwen2" or (model_type == "llama" and shape.attention_bias),
        output_bias=model_type == "llama" and shape.attention_bias,
        mlp_bias=model_type == "llama" and read.flag("mlp_bias"),
        sliding_window=window,
        layer_types=late_windows(read, window) if model_type == "qwen2" else (),
    )


def _sliding_window(read: Config, model_type: str) -> int | None:
    """Llama has none; Mistral's is on by default, Qwen2's only with ``use_sliding_window``."""
    if model_type == "llama" or (model_type == "qwen2" and not read.flag("use_sliding_window")):
        return None
    return read.size_or_none("sliding_window")


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Llama:
    """Load the model (and its adapters) in the simulator."""
    return (Qwen2 if shape.model_type == "qwen2" else Llama)(tape, shape, workload, kind)


class Llama(Decoder):
    """``LlamaForCausalLM`` and ``MistralForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kernel(index))


class Qwen2(ByLayerType, Llama):
    """``Qwen2ForCausalLM``."""
