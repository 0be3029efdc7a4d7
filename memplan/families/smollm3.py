"""SmolLM3: a Llama-like decoder of which every fourth block has no positions.

The forward pass follows transformers' ``modeling_smollm3.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block
from memplan.families.attention_block import PROJECTIONS
from memplan.families.config import Config, Where
from memplan.families.decoder_shape import decoder_shape
from memplan.families.layer_types import ByLayerType, layer_types
from memplan.simulator import cache
from memplan.simulator.blocks import Store
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

DEFAULTS: dict[str, Mapping[str, object]] = {
    "smollm3": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "no_rope_layer_interval": 4,
    },
}
"""Class defaults of transformers 5.x: SmolLM3Config."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``. Blocks without positions are those that slide, if any do.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = Config(config, DEFAULTS["smollm3"], where)
    unrotated = _unrotated(read)
    window = read.size_or_none("sliding_window") if read.flag("use_sliding_window") else None
    return replace(
        decoder_shape(read),
        mlp_bias=read.flag("mlp_bias"),
        sliding_window=window,
        layer_types=layer_types(read, lambda index: window is not None and index in unrotated),
        unrotated=unrotated,
    )


def _unrotated(read: Config) -> tuple[int, ...]:
    """``no_rope_layers`` has 0 for blocks without positions; unless written, they follow an interval."""
    blocks, interval = range(read.size("num_hidden_layers")), read.size("no_rope_layer_interval")
    written = read.get("no_rope_layers")
    if written is None:
        return tuple(index for index in blocks if (index + 1) % interval == 0)
    if not isinstance(written, list | tuple) or len(written) < len(blocks):
        raise read.wrong("no_rope_layers", f"a list of at least {len(blocks)} numbers, each 0 or 1")
    return tuple(index for index in blocks if not written[index])


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> SmolLm3:
    """Load the model (and its adapters) in the simulator."""
    return SmolLm3(tape, shape, workload, kind)


class Block(attention_block.Block):
    """A ``SmolLM3DecoderLayer`` without positions."""

    __slots__ = ()

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, *_positions: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Queries and keys as they are projected."""
        query, key, value = (self.heads(name, hidden_states) for name in ("q_proj", "k_proj", "v_proj"))
        hidden_states.tape.scope = "layers.*.self_attn"
        key, value = cache.update(key, value)
        return self.mix(query, key, value, mask)


class SmolLm3(ByLayerType):
    """``SmolLM3ForCausalLM``."""

    def make_block(self, store: Store, index: int) -> attention_block.Block:
        """Most blocks are Llama's."""
        kind = Block if index in self.shape.unrotated else attention_block.Block
        return kind(store, self.shape, self.kernel(index))
