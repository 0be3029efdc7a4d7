"""Mixtral: Mistral's attention, and a mixture of experts in every block.

The forward pass follows transformers' ``modeling_mixtral.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture, Mixture
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block, mixture
from memplan.families.attention_block import ATTENTION
from memplan.families.config import Config, Where
from memplan.families.decoder_shape import decoder_shape
from memplan.families.expert_adapters import AdaptsExperts
from memplan.simulator.blocks import Store
from memplan.simulator.experts import Experts
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ATTENTION
"""Linear layers of a block; routers and experts are parameters of their own, which ``peft`` does not wrap."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "mixtral": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
        "num_experts_per_tok": 2,
        "num_local_experts": 8,
    }
}
"""Class defaults of transformers 5.x: MixtralConfig."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["mixtral"], where)
    experts, chosen = mixture.experts(read, "num_local_experts", "num_experts")
    shape = decoder_shape(read)
    return replace(
        shape,
        attention_bias=False,
        output_bias=False,
        sliding_window=read.size_or_none("sliding_window"),
        mixture=Mixture(
            experts=experts,
            chosen=chosen,
            width=shape.intermediate_size,
            balanced=read.flag("output_router_logits"),
        ),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Mixtral:
    """Load the model (and its adapters) in the simulator."""
    return Mixtral(tape, shape, workload, kind)


class Block(attention_block.Block):
    """``MixtralDecoderLayer``."""

    __slots__ = ("sparse",)

    @property
    def stacked(self) -> Experts:
        """The experts."""
        return self.sparse.experts

    def load_mlp(self, store: Store) -> None:
        """Router and experts; their weights stay in fp32."""
        self.sparse = mixture.SparseMlp(store, self.shape)

    def mlp(self, x: Tensor) -> Tensor:
        """``MixtralSparseMoeBlock``."""
        return self.sparse(x)


class Mixtral(AdaptsExperts):
    """``MixtralForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kernel(index))
