"""Llama, Mistral and Qwen2: pre-norm decoders with grouped-query attention, rotary positions and SwiGLU.

The forward pass follows transformers' ``modeling_llama.py`` statement by statement (5.x), because the
lifetimes of its local variables decide the peak.

Shape suffixes: B batch, S sequence, H heads, K key/value heads, D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder, Projection
from memplan.simulator import attention, ops, shapes
from memplan.simulator.blocks import Linear, RMSNorm, Store, rotate
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers of a block, in load order: what an adapter may target."""

_SHARED: dict[str, object] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
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
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    return Architecture(
        model_type=model_type,
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=_key_value_heads(read, heads),
        head_dim=read.size_or_none("head_dim") or _head_dim(read, hidden, heads),
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        max_position_embeddings=read.size("max_position_embeddings"),
        attention_bias=model_type == "qwen2" or (model_type == "llama" and read.flag("attention_bias")),
        output_bias=model_type == "llama" and read.flag("attention_bias"),
        mlp_bias=model_type == "llama" and read.flag("mlp_bias"),
        sliding_window=_sliding_window(read, model_type),
    )


def _key_value_heads(read: Config, heads: int) -> int:
    found = read.size_or_none("num_key_value_heads") or heads
    if heads % found:
        raise read.wrong("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    return found


def _head_dim(read: Config, hidden: int, heads: int) -> int:
    if hidden % heads:
        raise read.wrong(
            "hidden_size", f"a multiple of num_attention_heads ({heads}), or an explicit head_dim"
        )
    return hidden // heads


def _sliding_window(read: Config, model_type: str) -> int | None:
    """Llama has none; Mistral's is on by default, Qwen2's only with ``use_sliding_window``."""
    if model_type == "llama" or (model_type == "qwen2" and not read.flag("use_sliding_window")):
        return None
    return read.size_or_none("sliding_window")


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Llama:
    """Load the model (and its adapters) in the simulator."""
    return Llama(tape, shape, workload, kind)


def _linears(shape: Architecture) -> dict[str, tuple[int, int, bool]]:
    """(inputs, outputs, bias) of each linear layer of a block."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    sides = ((hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden))
    biases = (shape.attention_bias,) * 3 + (shape.output_bias,)
    mlp = ((hidden, inner), (hidden, inner), (inner, hidden))
    rows = [(*side, bias) for side, bias in zip(sides, biases, strict=True)]
    return dict(zip(PROJECTIONS, rows + [(*side, shape.mlp_bias) for side in mlp], strict=True))


class Block:
    """``LlamaDecoderLayer``."""

    __slots__ = ("input_layernorm", "kind", "linears", "post_attention_layernorm", "shape")

    def __init__(self, store: Store, shape: Architecture, kind: Attention) -> None:
        self.shape = shape
        self.kind = kind
        self.linears: dict[str, Projection] = {
            name: Linear(store, f"layers.*.{_parent(name)}.{name}", inputs, outputs, bias=bias)
            for name, (inputs, outputs, bias) in _linears(shape).items()
        }
        self.input_layernorm = RMSNorm(store, "layers.*.input_layernorm", shape.hidden_size)
        self.post_attention_layernorm = RMSNorm(store, "layers.*.post_attention_layernorm", shape.hidden_size)

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
        batch, length, _ = hidden_states.shape
        query = self._heads("q_proj", hidden_states)
        key = self._heads("k_proj", hidden_states)
        value = self._heads("v_proj", hidden_states)
        hidden_states.tape.scope = "layers.*.self_attn"
        query, key = rotate(query, key, cosine, sine)
        weights: Tensor | None = None
        if self.kind is Attention.EAGER:
            output, weights = attention.eager(query, key, value, mask)
        else:
            output = attention.sdpa(self.kind, query, key, value, mask)
        output = shapes.contiguous(shapes.view(output, (batch, length, query.shape[1] * query.shape[3])))
        output = self.linears["o_proj"](output)
        return output, weights

    def _heads(self, name: str, hidden_states: Tensor) -> Tensor:
        batch, length, _ = hidden_states.shape
        projected = self.linears[name](hidden_states)
        width = self.shape.head_dim
        return shapes.transpose(
            shapes.view(projected, (batch, length, projected.shape[-1] // width, width)), 1, 2
        )

    def mlp(self, x: Tensor) -> Tensor:
        """``LlamaMLP``."""
        layers = self.linears
        return layers["down_proj"](ops.mul(ops.silu(layers["gate_proj"](x)), layers["up_proj"](x)))


def _parent(name: str) -> str:
    return "self_attn" if name in PROJECTIONS[:4] else "mlp"


class Llama(Decoder):
    """``LlamaForCausalLM`` and the other two."""

    def make_block(self, store: Store, _: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kind)
