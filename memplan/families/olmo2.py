"""OLMo 2: a Llama-like decoder that normalises what attention and MLP return, and whole queries and keys.

The forward pass follows transformers' ``modeling_olmo2.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block
from memplan.families.attention_block import PROJECTIONS
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder, Module
from memplan.families.decoder_shape import decoder_shape
from memplan.simulator import cache, liger, ops, shapes
from memplan.simulator.blocks import Rotary, Store, rotate
from memplan.simulator.norms import WideRMSNorm
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

DEFAULTS: dict[str, Mapping[str, object]] = {
    "olmo2": {
        "vocab_size": 50304,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
    },
}
"""Class defaults of transformers 5.x: Olmo2Config."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or the heads do not divide.
    """
    return decoder_shape(Config(config, DEFAULTS["olmo2"], where))


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Olmo2:
    """Load the model (and its adapters) in the simulator."""
    return Olmo2(tape, shape, workload, kind)


class WideRotary(Rotary):
    """``Olmo2RotaryEmbedding``: tables stay in fp32."""

    __slots__ = ()

    def rounded(self, table: Tensor, _: Dtype, /) -> Tensor:
        """As it is."""
        return table


class Norm(WideRMSNorm):
    """``Olmo2RMSNorm`` of hidden states, which Liger replaces: not in place, but for the last one."""

    __slots__ = ()

    def __call__(self, x: Tensor) -> Tensor:
        if not x.tape.liger.rms_norm:
            return super().__call__(x)
        x.tape.scope = self.name
        return liger.rms_norm(x, self.weight, in_place=self.name == "norm")


class Block(attention_block.Block):
    """``Olmo2DecoderLayer``."""

    __slots__ = ("normed",)

    Norm = Norm

    def load_attention(self, store: Store) -> None:
        """The norms come after the projections, and are as wide as they are."""
        super().load_attention(store)
        heads = {"q": self.shape.num_attention_heads, "k": self.shape.num_key_value_heads}
        self.normed = {
            f"{name}_proj": WideRMSNorm(store, f"layers.*.self_attn.{name}_norm", count * self.shape.head_dim)
            for name, count in heads.items()
        }

    def load_norms(self, store: Store) -> None:
        """Both come after what they normalise."""
        self.post_attention_layernorm = self.norm(store, "post_attention_layernorm")
        self.input_layernorm = self.norm(store, "post_feedforward_layernorm")

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor) -> Tensor:
        residual = hidden_states
        hidden_states, _ = self.attend(hidden_states, mask, *positions)
        hidden_states = self.post_attention_layernorm(hidden_states)
        hidden_states = ops.add(residual, hidden_states)
        residual = hidden_states
        hidden_states = self.mlp(hidden_states)
        hidden_states = self.input_layernorm(hidden_states)
        return ops.add(residual, hidden_states)

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """``Olmo2Attention``: heads are taken apart once all three are projected."""
        query = self.normed["q_proj"](self.linears["q_proj"](hidden_states))
        key = self.normed["k_proj"](self.linears["k_proj"](hidden_states))
        value = self.linears["v_proj"](hidden_states)
        query = shapes.transpose(self.rows(query), 1, 2)
        key = shapes.transpose(self.rows(key), 1, 2)
        value = shapes.transpose(self.rows(value), 1, 2)
        hidden_states.tape.scope = "layers.*.self_attn"
        query, key = self.turn(query, key, cosine, sine)
        key, value = cache.update(key, value)
        return self.mix(query, key, value, mask)

    def turn(self, query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """In fp32, rounded once both are turned."""
        turned, other = rotate(query, key, cosine, sine)
        return ops.to(turned, query.dtype), ops.to(other, key.dtype)


class Olmo2(Decoder):
    """``Olmo2ForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kernel(index))

    def make_norm(self, store: Store) -> Module:
        """Like those of the blocks."""
        return Norm(store, "norm", self.shape.hidden_size)

    def make_buffers(self, store: Store) -> None:
        """Tables in fp32."""
        self.rotary = WideRotary(store, self.shape.head_dim)
