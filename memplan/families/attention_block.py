"""The decoder block that Llama-like models share: norms, grouped rotary attention, a gated MLP, residuals.

A family subclasses ``Block`` where its model differs. The forward pass follows transformers'
``LlamaDecoderLayer`` statement by statement (5.x), because the lifetimes of its local variables decide
the peak.

Shapes: hidden states (B, S, h), query (B, H, S, D), key and value (B, K, S, D).
"""

from __future__ import annotations

from collections.abc import Callable

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention
from memplan.families.decoder import Module, Projection
from memplan.simulator import attention, cache, liger, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Linear, RMSNorm, Store, rotate
from memplan.simulator.tensor import Tensor

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
PROJECTIONS = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
"""Linear layers of a block, in load order: what an adapter may target."""


class Block:
    """``LlamaDecoderLayer``. ``kind`` is the attention kernel this block runs."""

    __slots__ = ("act", "input_layernorm", "kind", "linears", "post_attention_layernorm", "shape")

    Norm: Callable[[Store, str, int], Module] = RMSNorm

    def __init__(self, store: Store, shape: Architecture, kind: Attention) -> None:
        self.shape = shape
        self.kind = kind
        self.act = ACTIVATIONS[shape.hidden_act]
        self.linears: dict[str, Projection] = {}
        self.load_attention(store)
        self.load_mlp(store)
        self.load_norms(store)

    def load_attention(self, store: Store) -> None:
        """The layers of the attention module, in load order."""
        shape = self.shape
        queries = shape.num_attention_heads * shape.head_dim
        keys = shape.num_key_value_heads * shape.head_dim
        for name, outputs in zip(ATTENTION, (queries, keys, keys), strict=False):
            self.load(store, "self_attn", name, (shape.hidden_size, outputs), bias=shape.attention_bias)
        self.load(store, "self_attn", "o_proj", (queries, shape.hidden_size), bias=shape.output_bias)

    def load_mlp(self, store: Store) -> None:
        """The layers of the MLP, in load order."""
        hidden, inner = self.shape.hidden_size, self.shape.intermediate_size
        for name in ("gate_proj", "up_proj"):
            self.load(store, "mlp", name, (hidden, inner), bias=self.shape.mlp_bias)
        self.load(store, "mlp", "down_proj", (inner, hidden), bias=self.shape.mlp_bias)

    def load_norms(self, store: Store) -> None:
        """The norms of the block itself, in load order."""
        self.input_layernorm = self.norm(store, "input_layernorm")
        self.post_attention_layernorm = self.norm(store, "post_attention_layernorm")

    def load(
        self, store: Store, parent: str, name: str, sides: tuple[int, int], *, bias: bool = False
    ) -> None:
        """One linear layer of (inputs, outputs)."""
        inputs, outputs = sides
        self.linears[name] = Linear(store, f"layers.*.{parent}.{name}", inputs, outputs, bias=bias)

    def norm(self, store: Store, name: str, width: int | None = None) -> Module:
        """One norm, of the hidden states unless a width is given."""
        return type(self).Norm(store, f"layers.*.{name}", width or self.shape.hidden_size)

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor) -> Tensor:
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        hidden_states, _ = self.attend(hidden_states, mask, *positions)
        hidden_states = ops.add(residual, hidden_states)
        residual = hidden_states
        hidden_states = self.post_attention_layernorm(hidden_states)
        hidden_states = self.mlp(hidden_states)
        return ops.add(residual, hidden_states)

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """``LlamaAttention``: the output, and the attention probabilities where they exist."""
        query = self.heads("q_proj", hidden_states)
        key = self.heads("k_proj", hidden_states)
        value = self.heads("v_proj", hidden_states)
        hidden_states.tape.scope = "layers.*.self_attn"
        query, key = self.turn(query, key, cosine, sine)
        key, value = cache.update(key, value)
        return self.mix(query, key, value, mask)

    def heads(self, name: str, hidden_states: Tensor) -> Tensor:
        """A projection, taken apart by heads: (B, heads, S, D)."""
        return shapes.transpose(self.rows(self.linears[name](hidden_states)), 1, 2)

    def rows(self, projected: Tensor) -> Tensor:
        """A projection as (B, S, heads, D)."""
        batch, length, width = projected.shape
        return shapes.view(projected, (batch, length, width // self.shape.head_dim, self.shape.head_dim))

    def mix(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Attention and the output projection; the caller still holds query, key and value."""
        weights: Tensor | None = None
        if self.kind is Attention.EAGER:
            output, weights = self.eager(query, key, value, mask)
        else:
            output = attention.sdpa(self.kind, query, key, value, mask, dropout=self.shape.dropout.attention)
        batch, heads, length, width = query.shape
        output = shapes.contiguous(shapes.view(output, (batch, length, heads * width)))
        output = self.linears["o_proj"](output)
        return output, weights

    def turn(self, query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """Positions, applied to queries and keys."""
        return rotate(query, key, cosine, sine)

    def eager(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The model's own ``eager_attention_forward``."""
        capped, dropout = self.shape.attention_softcap, self.shape.dropout.attention
        return attention.eager(query, key, value, mask, softcapped=capped, dropout=dropout)

    def mlp(self, x: Tensor) -> Tensor:
        """``LlamaMLP``."""
        layers = self.linears
        if x.tape.liger.glu:
            return layers["down_proj"](liger.gated(layers["gate_proj"](x), layers["up_proj"](x)))
        return layers["down_proj"](ops.mul(self.act(layers["gate_proj"](x)), layers["up_proj"](x)))
