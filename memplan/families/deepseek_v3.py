"""DeepSeek-V3 and R1: multi-head latent attention, and experts of which groups are chosen first.

The forward pass follows transformers' ``modeling_deepseek_v3.py`` (5.x).

Shapes: B batch, S sequence, H heads, T tokens, E experts, G groups of experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture, Latent, Mixture
from memplan.domain.workload import Attention, Workload
from memplan.families import mixture
from memplan.families.config import Config, Where
from memplan.families.decoder_shape import decoder_shape
from memplan.families.expert_adapters import AdaptsExperts
from memplan.families.group_router import GroupRouter
from memplan.families.latent import LatentBlock
from memplan.simulator import ops, shapes
from memplan.simulator.blocks import Rotary, Store
from memplan.simulator.experts import Experts
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = (
    "q_proj",
    "q_a_proj",
    "q_b_proj",
    "kv_a_proj_with_mqa",
    "kv_b_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)
"""Linear layers a block may have; the last three are those of the dense MLP or of the shared experts."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "deepseek_v3": {
        "vocab_size": 129280,
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "n_shared_experts": 1,
        "n_routed_experts": 256,
        "kv_lora_rank": 512,
        "q_lora_rank": 1536,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "qk_nope_head_dim": 128,
        "n_group": 8,
        "topk_group": 4,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "norm_topk_prob": True,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "rope_interleave": True,
    }
}
"""Class defaults of transformers 5.x: DeepseekV3Config."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``. Latent attention has as many key as query heads, whatever is written.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["deepseek_v3"], where)
    latent = _latent(read)
    heads = read.size("num_attention_heads")
    widths = {"num_key_value_heads": heads, "head_dim": latent.plain + latent.rotary}
    shape = decoder_shape(Config({**config, **widths}, read.defaults, where))
    return replace(shape, latent=latent, mixture=_mixture(read))


def _latent(read: Config) -> Latent:
    return Latent(
        rank=read.size("kv_lora_rank"),
        plain=read.size("qk_nope_head_dim"),
        rotary=read.size("qk_rope_head_dim"),
        value=read.size("v_head_dim"),
        query_rank=read.size_or_none("q_lora_rank"),
        interleaved=read.flag("rope_interleave"),
    )


def _mixture(read: Config) -> Mixture:
    experts, chosen = mixture.experts(read, "n_routed_experts", "num_local_experts")
    groups, width = read.size("n_group"), read.size("moe_intermediate_size")
    if experts % groups:
        raise read.wrong("n_group", f"a divisor of the number of experts ({experts})")
    return Mixture(
        experts=experts,
        chosen=chosen,
        width=width,
        shared=width * read.size("n_shared_experts"),
        dense=tuple(range(min(read.count("first_k_dense_replace"), read.size("num_hidden_layers")))),
        groups=groups,
        groups_chosen=read.size("topk_group"),
        normalized=read.flag("norm_topk_prob"),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> DeepseekV3:
    """Load the model (and its adapters) in the simulator."""
    return DeepseekV3(tape, shape, workload, kind)


class Block(LatentBlock):
    """``DeepseekV3DecoderLayer``."""

    __slots__ = ("dense", "experts", "router")

    def __init__(self, store: Store, shape: Architecture, kind: Attention, *, dense: bool) -> None:
        self.dense = dense
        super().__init__(store, shape, kind)

    @property
    def stacked(self) -> Experts | None:
        """The experts, unless the MLP is dense."""
        return None if self.dense else self.experts

    def load_mlp(self, store: Store) -> None:
        """Experts, router and shared experts, or an ordinary MLP."""
        mixture, hidden = self.shape.mixture, self.shape.hidden_size
        if self.dense or mixture is None:
            super().load_mlp(store)
            return
        self.experts = Experts(store, "layers.*.mlp.experts", hidden, mixture, act=self.act)
        self.router = GroupRouter(store, "layers.*.mlp.gate", hidden, mixture)
        for name in ("gate_proj", "up_proj"):
            self.load(store, "mlp.shared_experts", name, (hidden, mixture.shared))
        self.load(store, "mlp.shared_experts", "down_proj", (mixture.shared, hidden))

    def mlp(self, x: Tensor) -> Tensor:
        """``DeepseekV3MoE`` or ``DeepseekV3MLP``."""
        return super().mlp(x) if self.dense else self.mixed(x)

    def mixed(self, hidden_states: Tensor) -> Tensor:
        """Routed experts plus the shared ones, which are an MLP of all tokens."""
        residuals = hidden_states
        batch, length, width = hidden_states.shape
        _, weights, indices = self.router(hidden_states)
        hidden_states = shapes.view(hidden_states, (batch * length, width))
        hidden_states = self.experts(hidden_states, indices, weights)
        hidden_states = shapes.view(hidden_states, (batch, length, width))
        return ops.add(hidden_states, super().mlp(residuals))


class DeepseekV3(AdaptsExperts):
    """``DeepseekV3ForCausalLM``: without the layers that predict further tokens, as it trains."""

    def make_block(self, store: Store, index: int) -> Block:
        """Blocks differ in their MLP."""
        assert self.shape.mixture is not None
        return Block(store, self.shape, self.kernel(index), dense=index in self.shape.mixture.dense)

    def make_buffers(self, store: Store) -> None:
        """Only a part of each head rotates."""
        assert self.shape.latent is not None
        self.rotary = Rotary(store, self.shape.latent.rotary)
