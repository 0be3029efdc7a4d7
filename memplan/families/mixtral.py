"""Mixtral: Mistral's attention, and a mixture of experts in every block.

The forward pass follows transformers' ``modeling_mixtral.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.domain.architecture import Architecture, Mixture
from memplan.domain.workload import Attention, Workload
from memplan.families import mixture
from memplan.families.attention_block import ATTENTION
from memplan.families.config import Config, Where, head_dim, key_value_heads
from memplan.families.decoder import Decoder
from memplan.families.mixture import SparseBlock
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Store
from memplan.simulator.tensor import Tape

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
    model_type = str(config["model_type"])
    read = Config(config, DEFAULTS[model_type], where)
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    experts = read.size("num_local_experts")
    return Architecture(
        model_type=model_type,
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads(read, heads),
        head_dim=read.size_or_none("head_dim") or head_dim(read, hidden, heads),
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        max_position_embeddings=read.size("max_position_embeddings"),
        hidden_act=read.choice("hidden_act", ACTIVATIONS),
        sliding_window=read.size_or_none("sliding_window"),
        mixture=Mixture(
            experts=experts,
            chosen=mixture.chosen(read, experts),
            width=read.size("intermediate_size"),
            balanced=read.flag("output_router_logits"),
        ),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Mixtral:
    """Load the model (and its adapters) in the simulator."""
    return Mixtral(tape, shape, workload, kind)


class Mixtral(Decoder):
    """``MixtralForCausalLM``."""

    def make_block(self, store: Store, index: int) -> SparseBlock:
        """All blocks are alike."""
        return SparseBlock(store, self.shape, self.kernel(index), index)
