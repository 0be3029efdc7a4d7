"""Tiny torchtune models: a Llama in full and with adapters, with its losses, with checkpointing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

EVENTS = Path(__file__).with_name("torchtune_events.json")
"""Recorded by ``record_torchtune``: the events of every case."""

MICRO, LENGTH, RANK = 2, 160, 6

SIDES = {
    "vocab_size": 1024,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "embed_dim": 96,
    "max_seq_len": 512,
    "intermediate_dim": 200,
}
CONFIG = {
    "model_type": "llama",
    "vocab_size": 1024,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 96,
    "max_position_embeddings": 512,
    "intermediate_size": 200,
}
"""The same model in torchtune's words and in those of a ``config.json``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How the model is trained; ``chunks`` of the loss, 0 for plain cross-entropy."""

    adapted: tuple[str, ...] = ()
    chunks: int = 0
    checkpointed: bool = False


_ADAPTED = ("q_proj", "v_proj", "output_proj", "mlp")

CASES = {
    "full": Case(),
    "full in chunks": Case(chunks=8),
    "full, checkpointed": Case(chunks=8, checkpointed=True),
    "adapters": Case(adapted=_ADAPTED),
    "adapters in chunks, checkpointed": Case(adapted=_ADAPTED, chunks=8, checkpointed=True),
}
