"""Gemma 3, its text model: Gemma 2 without caps, with normalised queries and keys and two rotary tables.

The forward pass follows transformers' ``modeling_gemma3.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Workload
from memplan.families import gemma, gemma2
from memplan.families.attention_block import PROJECTIONS
from memplan.families.config import Config, Where
from memplan.families.decoder_shape import decoder_shape
from memplan.families.gemma2 import Gemma2, capped
from memplan.families.layer_types import layer_types
from memplan.simulator import cache
from memplan.simulator.blocks import Rotary, Store, rotate
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

DEFAULTS: dict[str, Mapping[str, object]] = {
    "gemma3_text": gemma2.SHARED
    | {
        "vocab_size": 262208,
        "max_position_embeddings": 131072,
        "sliding_window_pattern": 6,
    },
}
"""Class defaults of transformers 5.x: Gemma3TextConfig."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    The class reads a cap of attention scores, but no attention of it applies one.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    read = gemma.causal(Config(config, DEFAULTS["gemma3_text"], where))
    pattern = read.size("sliding_window_pattern")
    return replace(
        decoder_shape(read, act="hidden_activation"),
        sliding_window=read.size("sliding_window"),
        layer_types=layer_types(read, lambda index: (index + 1) % pattern != 0),
        logit_softcap=capped(read, "final_logit_softcapping"),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Gemma3:
    """Load the model (and its adapters) in the simulator."""
    return Gemma3(tape, shape, workload, kind)


class Block(gemma2.Block):
    """``Gemma3DecoderLayer``."""

    __slots__ = ("k_norm", "q_norm")

    def load_attention(self, store: Store) -> None:
        """The norms come after the projections."""
        super().load_attention(store)
        self.q_norm = self.norm(store, "self_attn.q_norm", self.shape.head_dim)
        self.k_norm = self.norm(store, "self_attn.k_norm", self.shape.head_dim)

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """``Gemma3Attention``: queries and keys are normalised after they were transposed."""
        query = self.heads("q_proj", hidden_states)
        key = self.heads("k_proj", hidden_states)
        value = self.heads("v_proj", hidden_states)
        query = self.q_norm(query)
        key = self.k_norm(key)
        hidden_states.tape.scope = "layers.*.self_attn"
        query, key = rotate(query, key, cosine, sine)
        key, value = cache.update(key, value)
        return self.mix(query, key, value, mask)


class Gemma3(Gemma2):
    """``Gemma3ForCausalLM``."""

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike, but for what they attend to and how positions turn."""
        return Block(store, self.shape, self.kernel(index))

    def make_buffers(self, store: Store) -> None:
        """A rotary table for every type of layer there is."""
        types = sorted(set(self.shape.layer_types))
        self.tables = {name: Rotary(store, self.shape.head_dim) for name in types}

    def positions(self, hidden_states: Tensor) -> tuple[Tensor, ...]:
        """Cosine and sine of all tables, which live as long as the forward pass."""
        length = hidden_states.shape[1]
        return tuple(part for table in self.tables.values() for part in table(hidden_states, length))

    def layer_positions(self, positions: tuple[Tensor, ...], index: int) -> tuple[Tensor, ...]:
        """The table of a block's type."""
        first = 2 * list(self.tables).index(self.shape.layer_types[index])
        return positions[first : first + 2]
