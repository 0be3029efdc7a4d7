"""Phi-1, 1.5 and 2: attention and MLP side by side behind one norm, and biases everywhere, the LM head's too.

The forward pass follows transformers' ``modeling_phi.py`` (5.x) statement by statement, because the lifetimes
of its local variables decide the peak. Models with norms of their queries and keys are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture, Dropout
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder, Projection
from memplan.families.decoder_shape import decoder_shape
from memplan.families.phi3 import rotary_share
from memplan.simulator import cache, eager, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Linear, Rotary, Store, rotate
from memplan.simulator.matmul import linear
from memplan.simulator.norms import LayerNorm
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2")
"""Linear layers of a block, in load order: what an adapter may target."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "phi": {
        "vocab_size": 51200,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "hidden_act": "gelu_new",
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "partial_rotary_factor": 0.5,
    },
}
"""Class defaults of transformers 5.x: PhiConfig."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, the heads do not divide, or queries have norms.
    """
    read = Config(config, DEFAULTS["phi"], where)
    if read.flag("qk_layernorm"):
        raise read.wrong("qk_layernorm", "false: norms of queries and keys are not simulated")
    shape = decoder_shape(read)
    return replace(
        shape,
        model_type="phi",
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        rotary_dim=int(shape.head_dim * rotary_share(read)),
        dropout=Dropout(
            embedding=read.rate("embd_pdrop"),
            hidden=read.rate("resid_pdrop"),
            attention=read.rate("attention_dropout"),
        ),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Phi:
    """Load the model (and its adapters) in the simulator."""
    return Phi(tape, shape, workload, kind)


class Block:
    """``PhiDecoderLayer``."""

    __slots__ = ("activation", "input_layernorm", "kind", "linears", "shape")

    def __init__(self, store: Store, shape: Architecture, kind: Attention) -> None:
        hidden, inner = shape.hidden_size, shape.intermediate_size
        queries = shape.num_attention_heads * shape.head_dim
        keys = shape.num_key_value_heads * shape.head_dim
        self.shape = shape
        self.kind = kind
        self.activation = ACTIVATIONS[shape.hidden_act]
        attention = ((hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden))
        sides = (*attention, (hidden, inner), (inner, hidden))
        self.linears: dict[str, Projection] = {}
        for index, (name, (inputs, outputs)) in enumerate(zip(PROJECTIONS, sides, strict=True)):
            path = f"layers.*.{'self_attn' if index < 4 else 'mlp'}.{name}"
            self.linears[name] = Linear(store, path, inputs, outputs, bias=True)
        self.input_layernorm = LayerNorm(store, "layers.*.input_layernorm", hidden)

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor) -> Tensor:
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        attn_outputs, _ = self.attend(hidden_states, mask, *positions)
        attn_outputs = self._dropped(attn_outputs)
        feed_forward_hidden_states = self._dropped(self.mlp(hidden_states))
        return ops.add(ops.add(attn_outputs, feed_forward_hidden_states), residual)

    def _dropped(self, x: Tensor) -> Tensor:
        return ops.dropout(x) if self.shape.dropout.hidden else x

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """``PhiAttention``: the output, and the attention probabilities where they exist."""
        batch, length, _ = hidden_states.shape
        query, key, value = (self._heads(name, hidden_states) for name in PROJECTIONS[:3])
        hidden_states.tape.scope = "layers.*.self_attn"
        turning, rest = cosine.shape[-1], self.shape.head_dim - cosine.shape[-1]
        # The parts have names, and so live until the output is there.
        query_rot, query_pass = shapes.narrow_last(query, turning), shapes.narrow_last(query, rest)
        key_rot, key_pass = shapes.narrow_last(key, turning), shapes.narrow_last(key, rest)
        query_rot, key_rot = rotate(query_rot, key_rot, cosine, sine)
        query = shapes.cat_last(query_rot, query_pass)
        key = shapes.cat_last(key_rot, key_pass)
        key, value = cache.update(key, value)
        dropout = self.shape.dropout.attention
        output, weights = eager.kernel(self.kind, query, key, value, mask, dropout=dropout)
        width = self.shape.num_attention_heads * self.shape.head_dim
        output = shapes.contiguous(shapes.view(output, (batch, length, width)))
        output = self.linears["dense"](output)
        return output, weights

    def _heads(self, name: str, hidden_states: Tensor) -> Tensor:
        batch, length, _ = hidden_states.shape
        projected = self.linears[name](hidden_states)
        width = self.shape.head_dim
        return shapes.transpose(
            shapes.view(projected, (batch, length, projected.shape[2] // width, width)), 1, 2
        )

    def mlp(self, hidden_states: Tensor) -> Tensor:
        """``PhiMLP``."""
        hidden_states = self.linears["fc1"](hidden_states)
        hidden_states = self.activation(hidden_states)
        hidden_states = self.linears["fc2"](hidden_states)
        return hidden_states  # noqa: RET504


class Phi(Decoder):
    """``PhiForCausalLM``."""

    def __init__(self, tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> None:
        super().__init__(tape, shape, workload, kind)
        self.head_bias = self.store.parameter("lm_head.bias", (shape.vocab_size,), "decoder_matrix")

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kernel(index))

    def make_norm(self, store: Store) -> LayerNorm:
        """``final_layernorm``."""
        return LayerNorm(store, "final_layernorm", self.shape.hidden_size)

    def make_buffers(self, store: Store) -> None:
        """A rotary table of the part that rotates."""
        assert self.shape.rotary_dim is not None
        self.rotary = Rotary(store, self.shape.rotary_dim)

    def enter(self, inputs_embeds: Tensor) -> Tensor:
        """Dropout on the embeddings."""
        return ops.dropout(inputs_embeds) if self.shape.dropout.embedding else inputs_embeds

    def project(self, hidden_states: Tensor) -> Tensor:
        """Logits, with the head's bias."""
        return linear(hidden_states, self.head, self.head_bias)
