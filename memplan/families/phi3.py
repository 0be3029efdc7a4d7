"""Phi-3 and Phi-4: Llama-like decoders with packed projections, of whose heads a part may rotate.

The forward pass follows transformers' ``modeling_phi3.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder
from memplan.families.decoder_shape import decoder_shape
from memplan.simulator import cache, liger, ops, shapes
from memplan.simulator.blocks import Rotary, Store, rotate_half
from memplan.simulator.splits import split_last
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ("o_proj", "qkv_proj", "gate_up_proj", "down_proj")
"""Linear layers of a block, in load order: what an adapter may target."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "phi3": {
        "vocab_size": 32064,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "resid_pdrop": 0.0,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "partial_rotary_factor": 1.0,
    },
}
"""Class defaults of transformers 5.x: Phi3Config."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``. Biases are not read: the class has none.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["phi3"], where)
    shape = decoder_shape(read)
    return replace(
        shape,
        attention_bias=False,
        output_bias=False,
        sliding_window=read.size_or_none("sliding_window"),
        rotary_dim=int(shape.head_dim * rotary_share(read)),
        dropout=replace(shape.dropout, hidden=read.rate("resid_pdrop")),
    )


def rotary_share(read: Config) -> float:
    """``partial_rotary_factor``: among the rope's settings, under their old or new name, or beside them."""
    for key in ("rope_scaling", "rope_parameters"):
        if isinstance(read.get(key), Mapping):
            rope = read.within(key)
            if "partial_rotary_factor" in rope.values:
                return rope.rate("partial_rotary_factor")
    return read.rate("partial_rotary_factor")


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Phi3:
    """Load the model (and its adapters) in the simulator."""
    return Phi3(tape, shape, workload, kind)


def _rotate(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """``apply_rotary_pos_emb``: the rest of a head is attached again, even where it is nothing."""
    if query.tape.liger.rope:
        return liger.rotate(query, key, cosine, sine)
    cosine, sine = shapes.unsqueeze(cosine, 1), shapes.unsqueeze(sine, 1)
    width, rest = cosine.shape[-1], query.shape[-1] - cosine.shape[-1]
    query_turning, query_passing = shapes.narrow_last(query, width), shapes.narrow_last(query, rest)
    key_turning, key_passing = shapes.narrow_last(key, width), shapes.narrow_last(key, rest)
    query = shapes.cat_last(_turn(query_turning, cosine, sine), query_passing)
    key = shapes.cat_last(_turn(key_turning, cosine, sine), key_passing)
    return query, key


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    return ops.add(ops.mul(x, cosine), ops.mul(rotate_half(x), sine))


class Block(attention_block.Block):
    """``Phi3DecoderLayer``."""

    __slots__ = ()

    def load_attention(self, store: Store) -> None:
        """The output projection comes first."""
        shape = self.shape
        queries = shape.num_attention_heads * shape.head_dim
        packed = queries + 2 * shape.num_key_value_heads * shape.head_dim
        self.load(store, "self_attn", "o_proj", (queries, shape.hidden_size))
        self.load(store, "self_attn", "qkv_proj", (shape.hidden_size, packed))

    def load_mlp(self, store: Store) -> None:
        """Gate and up in one."""
        hidden, inner = self.shape.hidden_size, self.shape.intermediate_size
        self.load(store, "mlp", "gate_up_proj", (hidden, 2 * inner))
        self.load(store, "mlp", "down_proj", (inner, hidden))

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor) -> Tensor:
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        hidden_states, _ = self.attend(hidden_states, mask, *positions)
        hidden_states = ops.add(residual, self.dropped(hidden_states))
        residual = hidden_states
        hidden_states = self.post_attention_layernorm(hidden_states)
        hidden_states = self.mlp(hidden_states)
        return ops.add(residual, self.dropped(hidden_states))

    def dropped(self, x: Tensor) -> Tensor:
        """What the block adds to the residual stream, with dropout."""
        return ops.dropout(x) if self.shape.dropout.hidden else x

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """``Phi3Attention``: query, key and value are slices of one projection."""
        shape = self.shape
        keys = shape.num_key_value_heads * shape.head_dim
        packed = self.linears["qkv_proj"](hidden_states)
        query = shapes.narrow_last(packed, shape.num_attention_heads * shape.head_dim)
        key = shapes.narrow_last(packed, keys)
        value = shapes.narrow_last(packed, keys)
        query = shapes.transpose(self.rows(query), 1, 2)
        key = shapes.transpose(self.rows(key), 1, 2)
        value = shapes.transpose(self.rows(value), 1, 2)
        hidden_states.tape.scope = "layers.*.self_attn"
        query, key = _rotate(query, key, cosine, sine)
        key, value = cache.update(key, value)
        return self.mix(query, key, value, mask)

    def mlp(self, x: Tensor) -> Tensor:
        """``Phi3MLP``."""
        inner = self.shape.intermediate_size
        up = self.linears["gate_up_proj"](x)
        gate, up = split_last(up, (inner, inner))
        if x.tape.liger.glu:
            return self.linears["down_proj"](liger.gated(gate, up))
        up = ops.mul(up, self.act(gate))
        return self.linears["down_proj"](up)


class Phi3(Decoder):
    """``Phi3ForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kernel(index))

    def make_buffers(self, store: Store) -> None:
        """A rotary table of the part that rotates."""
        assert self.shape.rotary_dim is not None
        self.rotary = Rotary(store, self.shape.rotary_dim)
