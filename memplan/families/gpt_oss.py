"""GPT-OSS: attention with sinks, in full and within a window by turns, and experts with biases.

The forward pass follows transformers' ``modeling_gpt_oss.py`` (5.x). It has no SDPA: without a FlashAttention
kernel that knows sinks it runs eager attention. Weights published as MXFP4 are counted in the dtype they are
dequantised to for training.

Shapes: B batch, S sequence, H heads, T tokens, E experts, k experts per token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture, Mixture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block, mixture
from memplan.families.attention_block import ATTENTION
from memplan.families.config import Config, Where
from memplan.families.decoder import Module
from memplan.families.decoder_shape import decoder_shape
from memplan.families.expert_adapters import AdaptsExperts
from memplan.families.layer_types import FULL, SLIDING, ByLayerType, layer_types
from memplan.simulator import attention, indexing, liger, ops, shapes, sinks
from memplan.simulator.activations import sigmoid
from memplan.simulator.blocks import Rotary, Store
from memplan.simulator.clamp import clamp
from memplan.simulator.experts import Experts
from memplan.simulator.interleaved import every_second, rotate_halves
from memplan.simulator.matmul import linear
from memplan.simulator.norms import WideRMSNorm
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ATTENTION
"""Linear layers of a block; routers and experts are parameters of their own, which ``peft`` does not wrap."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "gpt_oss": {
        "vocab_size": 201088,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
        "attention_bias": True,
        "sliding_window": 128,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
    }
}
"""Class defaults of transformers 5.x: GptOssConfig."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["gpt_oss"], where)
    experts, chosen = mixture.experts(read, "num_local_experts", "num_experts")
    quantization = read.get("quantization_config")
    return replace(
        decoder_shape(read),
        sinks=True,
        sliding_window=read.size_or_none("sliding_window"),
        layer_types=layer_types(read, lambda index: index % 2 == 0),
        mixture=Mixture(
            experts=experts,
            chosen=chosen,
            width=read.size("intermediate_size"),
            balanced=read.flag("output_router_logits"),
            packed=isinstance(quantization, Mapping) and quantization.get("quant_method") == "mxfp4",
        ),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> GptOss:
    """Load the model (and its adapters) in the simulator."""
    return GptOss(tape, shape, workload, kind)


class Norm(WideRMSNorm):
    """``GptOssRMSNorm``. Loaded as fp16, its weight stays in fp32."""

    __slots__ = ()

    def __init__(self, store: Store, name: str, width: int) -> None:
        self.name = name
        kept = Dtype.FP32 if store.dtype is Dtype.FP16 else None
        self.weight = store.parameter(f"{name}.weight", (width,), dtype=kept)

    def __call__(self, x: Tensor) -> Tensor:
        if not x.tape.liger.rms_norm:
            return super().__call__(x)
        x.tape.scope = self.name
        return liger.rms_norm(x, self.weight, in_place=True)


class HalfRotary(Rotary):
    """``GptOssRotaryEmbedding``: tables (1, S, D / 2), one entry for both numbers of a pair."""

    __slots__ = ()

    def table(self, frequencies: Tensor) -> Tensor:
        """The frequencies as they are."""
        return frequencies


class Router:
    """``GptOssTopKRouter``: the best ``chosen`` logits, and a softmax over those only."""

    __slots__ = ("bias", "mixture", "name", "weight")

    def __init__(self, store: Store, name: str, hidden: int, mixture: Mixture) -> None:
        self.mixture = mixture
        self.name = name
        self.weight = store.parameter(f"{name}.weight", (mixture.experts, hidden))
        self.bias = store.parameter(f"{name}.bias", (mixture.experts,))

    def __call__(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (T, h) → logits (T, E), weights (T, k) and experts (T, k)."""
        hidden_states.tape.scope = self.name
        logits = linear(hidden_states, self.weight, self.bias)
        values, indices = indexing.topk(logits, self.mixture.chosen)
        scores = attention.softmax(values, dtype=values.dtype)
        return logits, scores, indices


class ClampedExperts(Experts):
    """``GptOssExperts``: gate and up take turns within the projection, and are clamped."""

    __slots__ = ()

    def apply_gate(self, gate_up: Tensor) -> Tensor:
        """``(up + 1) * gate * sigmoid(alpha * gate)``."""
        gate, up = every_second(gate_up), every_second(gate_up)
        gate = clamp(gate, sides=1)
        up = clamp(up, sides=2)
        glu = ops.mul(gate, sigmoid(ops.mul_scalar(gate)))
        return ops.mul(ops.add_scalar(up), glu)


class Block(attention_block.Block):
    """``GptOssDecoderLayer``."""

    __slots__ = ("experts", "router", "sinks")

    Norm = Norm

    def load_attention(self, store: Store) -> None:
        """The sinks come before the projections."""
        self.sinks = store.parameter("layers.*.self_attn.sinks", (self.shape.num_attention_heads,))
        super().load_attention(store)

    @property
    def stacked(self) -> Experts:
        """The experts."""
        return self.experts

    def load_mlp(self, store: Store) -> None:
        """Router and experts."""
        found, hidden = self.shape.mixture, self.shape.hidden_size
        assert found is not None
        self.router = Router(store, "layers.*.mlp.router", hidden, found)
        self.experts = ClampedExperts(
            store, "layers.*.mlp.experts", hidden, found, act=ops.silu, transposed=True, bias=True
        )

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor) -> Tensor:
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        hidden_states, _ = self.attend(hidden_states, mask, *positions)
        hidden_states = ops.add(residual, hidden_states)
        residual = hidden_states
        hidden_states = self.post_attention_layernorm(hidden_states)
        # The router's scores take the place of the attention probabilities.
        hidden_states, _ = self.mixed(hidden_states)
        return ops.add(residual, hidden_states)

    def turn(self, query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """``apply_rotary_pos_emb`` of ``modeling_gpt_oss.py``."""
        if query.tape.liger.rope:
            return liger.rotate(query, key, cosine, sine)
        cosine, sine = shapes.unsqueeze(cosine, 1), shapes.unsqueeze(sine, 1)
        query_rotated = rotate_halves(query, cosine, sine)
        key_rotated = rotate_halves(key, cosine, sine)
        return query_rotated, key_rotated

    def eager(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Attention with sinks; a fused kernel takes them as one more argument."""
        return sinks.eager(query, key, value, mask, self.sinks)

    def mixed(self, hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        """``GptOssMLP``: the output, and the weights of the chosen experts."""
        batch, length, width = hidden_states.shape
        hidden_states = shapes.view(hidden_states, (batch * length, width))
        _, scores, indices = self.router(hidden_states)
        hidden_states = self.experts(hidden_states, indices, scores)
        hidden_states = shapes.view(hidden_states, (batch, length, width))
        return hidden_states, scores


class GptOss(AdaptsExperts, ByLayerType):
    """``GptOssForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike, but for what they attend to."""
        return Block(store, self.shape, self.kernel(index))

    def make_norm(self, store: Store) -> Module:
        """Like those of the blocks."""
        return Norm(store, "norm", self.shape.hidden_size)

    def make_buffers(self, store: Store) -> None:
        """Half tables."""
        self.rotary = HalfRotary(store, self.shape.head_dim)

    def mask_types(self) -> tuple[str, ...]:
        """Both, whether a block uses them or not."""
        return FULL, SLIDING
