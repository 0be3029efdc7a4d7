"""Gemma 2: Gemma with four norms per block, capped scores and logits, and every other block sliding.

The forward pass follows transformers' ``modeling_gemma2.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families import gemma
from memplan.families.attention_block import PROJECTIONS
from memplan.families.config import Config, Where
from memplan.families.decoder_shape import decoder_shape
from memplan.families.gemma import Gemma
from memplan.families.layer_types import FULL, SLIDING, ByLayerType, layer_types
from memplan.simulator import ops
from memplan.simulator.activations import tanh
from memplan.simulator.blocks import Store
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

SHARED: dict[str, object] = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
    "sliding_window": 4096,
}
DEFAULTS: dict[str, Mapping[str, object]] = {
    "gemma2": SHARED
    | {
        "vocab_size": 256000,
        "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
}
"""Class defaults of transformers 5.x: Gemma2Config."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = gemma.causal(Config(config, DEFAULTS["gemma2"], where))
    return replace(
        decoder_shape(read, act="hidden_activation"),
        sliding_window=read.size("sliding_window"),
        layer_types=layer_types(read, lambda index: index % 2 == 0),
        attention_softcap=capped(read, "attn_logit_softcapping"),
        logit_softcap=capped(read, "final_logit_softcapping"),
    )


def capped(read: Config, key: str) -> bool:
    """Whether there is a cap: its value does not matter for memory.

    Raises:
        FieldError: it is not a number.
    """
    value = read.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise read.wrong(key, "a number, or null")
    return value is not None


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Gemma2:
    """Load the model (and its adapters) in the simulator."""
    return Gemma2(tape, shape, workload, kind)


class Block(gemma.Block):
    """``Gemma2DecoderLayer``: what attention and the MLP return is normalised too."""

    __slots__ = ("post_feedforward_layernorm", "pre_feedforward_layernorm")

    def load_norms(self, store: Store) -> None:
        """Four norms."""
        super().load_norms(store)
        self.pre_feedforward_layernorm = self.norm(store, "pre_feedforward_layernorm")
        self.post_feedforward_layernorm = self.norm(store, "post_feedforward_layernorm")

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor) -> Tensor:
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        hidden_states, _ = self.attend(hidden_states, mask, *positions)
        hidden_states = self.post_attention_layernorm(hidden_states)
        hidden_states = ops.add(residual, hidden_states)
        residual = hidden_states
        hidden_states = self.pre_feedforward_layernorm(hidden_states)
        hidden_states = self.mlp(hidden_states)
        hidden_states = self.post_feedforward_layernorm(hidden_states)
        return ops.add(residual, hidden_states)


class Gemma2(ByLayerType, Gemma):
    """``Gemma2ForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike, but for what they attend to."""
        return Block(store, self.shape, self.kernel(index))

    def mask_types(self) -> tuple[str, ...]:
        """Both, whether a block uses them or not."""
        return FULL, SLIDING

    def project(self, hidden_states: Tensor) -> Tensor:
        """Logits, capped by ``tanh(logits / cap) * cap`` if the model says so."""
        logits = super().project(hidden_states)
        if self.shape.logit_softcap:
            logits = ops.mul_scalar(logits)
            logits = tanh(logits)
            logits = ops.mul_scalar(logits)
        return logits
