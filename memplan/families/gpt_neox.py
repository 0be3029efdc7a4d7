"""GPT-NeoX (Pythia): parallel residual, packed projections by head, rotary positions on part of a head.

The forward pass follows transformers' ``modeling_gpt_neox.py`` (5.x) statement by statement, because the
lifetimes of its local variables decide the peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.domain.architecture import Architecture, Dropout
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder, Projection
from memplan.simulator import cache, eager, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Linear, Rotary, Store, rotate_half
from memplan.simulator.norms import LayerNorm
from memplan.simulator.splits import split_last
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
"""Linear layers of a block, in load order: what an adapter may target."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "gpt_neox": {
        "vocab_size": 50432,
        "hidden_size": 6144,
        "num_hidden_layers": 44,
        "num_attention_heads": 64,
        "intermediate_size": 24576,
        "hidden_act": "gelu",
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "use_parallel_residual": True,
        "attention_bias": True,
        "rotary_pct": 0.25,
    }
}
"""Class defaults of transformers 5.x: GPTNeoXConfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NeoX(Architecture):
    """``parallel``: attention and MLP read the same hidden states."""

    parallel: bool = True


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or the heads do not divide.
    """
    read = Config(config, DEFAULTS["gpt_neox"], where)
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    if hidden % heads:
        raise read.wrong("hidden_size", f"a multiple of num_attention_heads ({heads})")
    return NeoX(
        model_type="gpt_neox",
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        max_position_embeddings=read.size("max_position_embeddings"),
        attention_bias=read.flag("attention_bias"),
        hidden_act=read.choice("hidden_act", ACTIVATIONS),
        rotary_dim=int(hidden // heads * _rotary_share(read)),
        dropout=Dropout(
            embedding=read.rate("hidden_dropout"),
            hidden=read.rate("hidden_dropout"),
            attention=read.rate("attention_dropout"),
        ),
        parallel=read.flag("use_parallel_residual"),
    )


def _rotary_share(read: Config) -> float:
    """``rope_parameters.partial_rotary_factor`` of 5.x, or the older ``rotary_pct``."""
    written = read.get("rope_parameters")
    if isinstance(written, Mapping) and "partial_rotary_factor" in written:
        return Config(written, {}, lambda _: read.where("rope_parameters")).rate("partial_rotary_factor")
    return read.rate("rotary_pct")


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> GptNeoX:
    """Load the model (and its adapters) in the simulator."""
    return GptNeoX(tape, shape, workload, kind)


def _front(x: Tensor, width: int) -> Tensor:
    """A slice from the start; one of everything is no slice to PyTorch (``applySlice``)."""
    return x if width == x.shape[-1] else shapes.narrow_last(x, width)


def _rotate(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """``apply_rotary_pos_emb``: the front of each head rotates, the rest is attached again."""
    cosine, sine = shapes.unsqueeze(cosine, 1), shapes.unsqueeze(sine, 1)
    width = cosine.shape[-1]
    rest = query.shape[-1] - width
    query_rotating, query_passing = _front(query, width), shapes.narrow_last(query, rest)
    key_rotating, key_passing = _front(key, width), shapes.narrow_last(key, rest)
    query = ops.add(ops.mul(query_rotating, cosine), ops.mul(rotate_half(query_rotating), sine))
    key = ops.add(ops.mul(key_rotating, cosine), ops.mul(rotate_half(key_rotating), sine))
    query = shapes.cat_last(query, query_passing)
    key = shapes.cat_last(key, key_passing)
    return query, key


class Block:
    """``GPTNeoXLayer``."""

    __slots__ = (
        "activation",
        "input_layernorm",
        "kind",
        "linears",
        "post_attention_layernorm",
        "shape",
    )

    def __init__(self, store: Store, shape: NeoX, kind: Attention) -> None:
        hidden, inner = shape.hidden_size, shape.intermediate_size
        self.shape = shape
        self.kind = kind
        self.activation = ACTIVATIONS[shape.hidden_act]
        self.input_layernorm = LayerNorm(store, "layers.*.input_layernorm", hidden)
        self.post_attention_layernorm = LayerNorm(store, "layers.*.post_attention_layernorm", hidden)
        bias = shape.attention_bias
        self.linears: dict[str, Projection] = {
            "query_key_value": Linear(
                store, "layers.*.attention.query_key_value", hidden, 3 * hidden, bias=bias
            ),
            "dense": Linear(store, "layers.*.attention.dense", hidden, hidden, bias=bias),
            "dense_h_to_4h": Linear(store, "layers.*.mlp.dense_h_to_4h", hidden, inner, bias=True),
            "dense_4h_to_h": Linear(store, "layers.*.mlp.dense_4h_to_h", inner, hidden, bias=True),
        }

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor) -> Tensor:
        attn_output, _ = self.attend(self.input_layernorm(hidden_states), mask, *positions)
        attn_output = self._dropped(attn_output)
        if self.shape.parallel:
            mlp_output = self.mlp(self.post_attention_layernorm(hidden_states))
            mlp_output = self._dropped(mlp_output)
            hidden_states = ops.add(ops.add(mlp_output, attn_output), hidden_states)
        else:
            attn_output = ops.add(attn_output, hidden_states)
            mlp_output = self.mlp(self.post_attention_layernorm(attn_output))
            mlp_output = self._dropped(mlp_output)
            hidden_states = ops.add(mlp_output, attn_output)
        return hidden_states

    def _dropped(self, x: Tensor) -> Tensor:
        return ops.dropout(x) if self.shape.dropout.hidden else x

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """``GPTNeoXAttention``: the output, and the attention probabilities where they exist."""
        batch, length, hidden = hidden_states.shape
        width = self.shape.head_dim
        packed = self.linears["query_key_value"](hidden_states)
        hidden_states.tape.scope = "layers.*.attention"
        packed = shapes.transpose(shapes.view(packed, (batch, length, hidden // width, 3 * width)), 1, 2)
        query, key, value = split_last(packed, (width, width, width))
        query, key = _rotate(query, key, cosine, sine)
        key, value = cache.update(key, value)
        dropout = self.shape.dropout.attention
        output, weights = eager.kernel(self.kind, query, key, value, mask, dropout=dropout)
        output = shapes.contiguous(shapes.view(output, (batch, length, hidden)))
        output = self.linears["dense"](output)
        return output, weights

    def mlp(self, x: Tensor) -> Tensor:
        """``GPTNeoXMLP``; its input has no other name, but the frame of the call holds it."""
        return self._feed_forward(x)

    def _feed_forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.linears["dense_h_to_4h"](hidden_states)
        hidden_states = self.activation(hidden_states)
        hidden_states = self.linears["dense_4h_to_h"](hidden_states)
        return hidden_states  # noqa: RET504


class GptNeoX(Decoder):
    """``GPTNeoXForCausalLM``."""

    shape: NeoX

    def make_block(self, store: Store, _: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kind)

    def make_norm(self, store: Store) -> LayerNorm:
        """``final_layer_norm``."""
        return LayerNorm(store, "final_layer_norm", self.shape.hidden_size)

    def make_buffers(self, store: Store) -> None:
        """Rotary positions of the part that rotates."""
        assert self.shape.rotary_dim is not None
        self.rotary = Rotary(store, self.shape.rotary_dim)

    def enter(self, inputs_embeds: Tensor) -> Tensor:
        """Dropout on the embeddings."""
        return ops.dropout(inputs_embeds) if self.shape.dropout.embedding else inputs_embeds
