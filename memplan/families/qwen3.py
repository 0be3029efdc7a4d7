"""Qwen3: a Llama-like decoder that normalises queries and keys head by head.

The forward pass follows transformers' ``modeling_qwen3.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block
from memplan.families.attention_block import PROJECTIONS
from memplan.families.config import Config, Where
from memplan.families.decoder_shape import decoder_shape
from memplan.families.layer_types import ByLayerType, late_windows
from memplan.simulator import shapes
from memplan.simulator.blocks import Store
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

DEFAULTS: dict[str, Mapping[str, object]] = {
    "qwen3": {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
}
"""Class defaults of transformers 5.x: Qwen3Config."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["qwen3"], where)
    window = read.size_or_none("sliding_window") if read.flag("use_sliding_window") else None
    return replace(
        decoder_shape(read),
        sliding_window=window,
        layer_types=late_windows(read, window),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Qwen3:
    """Load the model (and its adapters) in the simulator."""
    return Qwen3(tape, shape, workload, kind)


class Block(attention_block.Block):
    """``Qwen3DecoderLayer``."""

    __slots__ = ("normed",)

    def load_attention(self, store: Store) -> None:
        """The norms come after the projections."""
        super().load_attention(store)
        self.normed = {
            f"{name}_proj": self.norm(store, f"self_attn.{name}_norm", self.shape.head_dim) for name in "qk"
        }

    def heads(self, name: str, hidden_states: Tensor) -> Tensor:
        """Queries and keys are normalised before they are transposed."""
        if name not in self.normed:
            return super().heads(name, hidden_states)
        return shapes.transpose(self.normed[name](self.rows(self.linears[name](hidden_states))), 1, 2)


class Qwen3(ByLayerType):
    """``Qwen3ForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike, but for what they attend to."""
        return Block(store, self.shape, self.kernel(index))
