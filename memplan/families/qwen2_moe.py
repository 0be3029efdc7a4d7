"""Qwen2-MoE: Qwen2's attention, experts beside one that all tokens pass, and a gate for that one.

The forward pass follows transformers' ``modeling_qwen2_moe.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture, Mixture
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block, mixture
from memplan.families.config import Config, Where
from memplan.families.decoder_shape import decoder_shape
from memplan.families.expert_adapters import AdaptsExperts
from memplan.families.layer_types import FULL, SLIDING, ByLayerType, layer_types
from memplan.families.qwen3_moe import dense
from memplan.simulator import ops, shapes
from memplan.simulator.activations import sigmoid
from memplan.simulator.blocks import Store
from memplan.simulator.experts import Experts
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = (*attention_block.PROJECTIONS, "shared_expert_gate")
"""Linear layers of a block: the MLP's are those of the shared expert, or of blocks without others."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "qwen2_moe": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "decoder_sparse_step": 1,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "num_experts_per_tok": 4,
        "num_experts": 60,
        "qkv_bias": True,
    }
}
"""Class defaults of transformers 5.x: Qwen2MoeConfig."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``. Every other one of the first ``max_window_layers`` blocks slides, if any do.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["qwen2_moe"], where)
    experts, chosen = mixture.experts(read, "num_experts", "num_local_experts")
    window = read.size_or_none("sliding_window") if read.flag("use_sliding_window") else None
    last = read.count("max_window_layers")
    return replace(
        decoder_shape(read),
        attention_bias=read.flag("qkv_bias"),
        output_bias=False,
        sliding_window=window,
        layer_types=layer_types(read, lambda index: window is not None and index < last and index % 2 == 0),
        mixture=Mixture(
            experts=experts,
            chosen=chosen,
            width=read.size("moe_intermediate_size"),
            shared=read.size("shared_expert_intermediate_size"),
            dense=dense(read),
            normalized=read.flag("norm_topk_prob"),
            balanced=read.flag("output_router_logits"),
        ),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Qwen2Moe:
    """Load the model (and its adapters) in the simulator."""
    return Qwen2Moe(tape, shape, workload, kind)


class Block(attention_block.Block):
    """``Qwen2MoeDecoderLayer``."""

    __slots__ = ("dense", "experts", "router")

    def __init__(self, store: Store, shape: Architecture, kind: Attention, *, dense: bool) -> None:
        self.dense = dense
        super().__init__(store, shape, kind)

    @property
    def stacked(self) -> Experts | None:
        """The experts, unless the MLP is dense."""
        return None if self.dense else self.experts

    def load_mlp(self, store: Store) -> None:
        """Router, experts, the shared expert and its gate, or an ordinary MLP."""
        found, hidden = self.shape.mixture, self.shape.hidden_size
        if self.dense or found is None:
            super().load_mlp(store)
            return
        self.router = mixture.SoftmaxRouter(store, mixture.ROUTER, hidden, found, rounded=True)
        self.experts = Experts(store, mixture.EXPERTS, hidden, found, act=self.act)
        for name in ("gate_proj", "up_proj"):
            self.load(store, "mlp.shared_expert", name, (hidden, found.shared))
        self.load(store, "mlp.shared_expert", "down_proj", (found.shared, hidden))
        self.load(store, "mlp", "shared_expert_gate", (hidden, 1))

    def mlp(self, x: Tensor) -> Tensor:
        """``Qwen2MoeSparseMoeBlock`` or ``Qwen2MoeMLP``."""
        if self.dense:
            return super().mlp(x)
        batch, length, hidden = x.shape
        tokens = shapes.view(x, (batch * length, hidden))
        shared = super().mlp(tokens)
        _, weights, experts = self.router(tokens)
        output = self.experts(tokens, experts, weights)
        shared = ops.mul(sigmoid(self.linears["shared_expert_gate"](tokens)), shared)
        output = ops.add(output, shared)
        return shapes.view(output, (batch, length, hidden))


class Qwen2Moe(AdaptsExperts, ByLayerType):
    """``Qwen2MoeForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """Blocks differ in their MLP."""
        assert self.shape.mixture is not None
        return Block(store, self.shape, self.kernel(index), dense=index in self.shape.mixture.dense)

    def mask_types(self) -> tuple[str, ...]:
        """Both, whether a block uses them or not."""
        return FULL, SLIDING
