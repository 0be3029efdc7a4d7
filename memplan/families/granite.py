"""Granite: a Llama-like decoder whose embeddings, residual branches and logits are scaled by constants.

The forward pass follows transformers' ``modeling_granite.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block
from memplan.families.attention_block import PROJECTIONS
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder
from memplan.families.decoder_shape import decoder_shape
from memplan.simulator import ops
from memplan.simulator.blocks import Store
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

DEFAULTS: dict[str, Mapping[str, object]] = {
    "granite": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
}
"""Class defaults of transformers 5.x: GraniteConfig."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``. What the constants are does not matter: their products are made in any case.

    Raises:
        FieldError: a value has the wrong type or range, or the heads do not divide.
    """
    read = Config(config, DEFAULTS["granite"], where)
    return replace(decoder_shape(read), mlp_bias=read.flag("mlp_bias"))


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Granite:
    """Load the model (and its adapters) in the simulator."""
    return Granite(tape, shape, workload, kind)


class Block(attention_block.Block):
    """``GraniteDecoderLayer``."""

    __slots__ = ()

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor) -> Tensor:
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        hidden_states, _ = self.attend(hidden_states, mask, *positions)
        hidden_states = ops.add(residual, ops.mul_scalar(hidden_states))
        residual = hidden_states
        hidden_states = self.post_attention_layernorm(hidden_states)
        hidden_states = self.mlp(hidden_states)
        hidden_states = ops.add(residual, ops.mul_scalar(hidden_states))
        return hidden_states  # noqa: RET504


class Granite(Decoder):
    """``GraniteForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kernel(index))

    def scale(self, inputs_embeds: Tensor) -> Tensor:
        """Embeddings are scaled by the model, not by their module, and take their name."""
        return ops.mul_scalar(inputs_embeds)

    def project(self, hidden_states: Tensor) -> Tensor:
        """Logits are scaled down."""
        return ops.mul_scalar(super().project(hidden_states))
