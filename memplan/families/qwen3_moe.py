"""Qwen3-MoE: Qwen3's attention, and a mixture of experts in all blocks but those the config names.

The forward pass follows transformers' ``modeling_qwen3_moe.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture, Mixture
from memplan.domain.workload import Attention, Workload
from memplan.families import mixture, qwen3
from memplan.families.attention_block import PROJECTIONS
from memplan.families.config import Config, Where
from memplan.families.decoder_shape import decoder_shape
from memplan.families.expert_adapters import AdaptsExperts
from memplan.simulator.blocks import Store
from memplan.simulator.experts import Experts
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "architecture", "build"]

DEFAULTS: dict[str, Mapping[str, object]] = {
    "qwen3_moe": {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "tie_word_embeddings": False,
        "sliding_window": 4096,
        "decoder_sparse_step": 1,
        "moe_intermediate_size": 768,
        "num_experts_per_tok": 8,
        "num_experts": 128,
    }
}
"""Class defaults of transformers 5.x: Qwen3MoeConfig. It has no head_dim of its own."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["qwen3_moe"], where)
    experts, chosen = mixture.experts(read, "num_experts", "num_local_experts")
    return replace(
        decoder_shape(read),
        sliding_window=read.size_or_none("sliding_window") if read.flag("use_sliding_window") else None,
        mixture=Mixture(
            experts=experts,
            chosen=chosen,
            width=read.size("moe_intermediate_size"),
            dense=dense(read),
            normalized=read.flag("norm_topk_prob"),
            balanced=read.flag("output_router_logits"),
        ),
    )


def dense(read: Config) -> tuple[int, ...]:
    """Blocks with an ordinary MLP: ``mlp_only_layers``, and all but every ``decoder_sparse_step``-th."""
    step = read.size("decoder_sparse_step")
    listed = read.get("mlp_only_layers") or []
    if not isinstance(listed, list | tuple) or not all(type(index) is int for index in listed):
        raise read.wrong("mlp_only_layers", "a list of block numbers")
    return tuple(
        index for index in range(read.size("num_hidden_layers")) if index in listed or (index + 1) % step
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Qwen3Moe:
    """Load the model (and its adapters) in the simulator."""
    return Qwen3Moe(tape, shape, workload, kind)


class Block(qwen3.Block):
    """``Qwen3MoeDecoderLayer``."""

    __slots__ = ("dense", "sparse")

    def __init__(self, store: Store, shape: Architecture, kind: Attention, *, dense: bool) -> None:
        self.dense = dense
        super().__init__(store, shape, kind)

    @property
    def stacked(self) -> Experts | None:
        """The experts, unless the MLP is dense."""
        return None if self.dense else self.sparse.experts

    def load_mlp(self, store: Store) -> None:
        """Router and experts, or an ordinary MLP."""
        if self.dense:
            super().load_mlp(store)
        else:
            self.sparse = mixture.SparseMlp(store, self.shape, rounded=True)

    def mlp(self, x: Tensor) -> Tensor:
        """``Qwen3MoeSparseMoeBlock`` or ``Qwen3MoeMLP``."""
        return super().mlp(x) if self.dense else self.sparse(x)


class Qwen3Moe(AdaptsExperts):
    """``Qwen3MoeForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """Blocks differ in their MLP."""
        assert self.shape.mixture is not None
        dense = index in self.shape.mixture.dense
        return Block(store, self.shape, self.kernel(index), dense=dense)
