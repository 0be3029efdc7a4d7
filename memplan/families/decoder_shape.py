"""The keys of ``config.json`` that every Llama-like model has."""

from __future__ import annotations

from memplan.domain.architecture import Architecture, Dropout
from memplan.families.config import Config, head_dim, key_value_heads
from memplan.simulator.activations import ACTIVATIONS


def decoder_shape(read: Config, *, act: str = "hidden_act") -> Architecture:
    """Dimensions, heads, activation (under the key ``act``), biases and dropout of the attention.

    Raises:
        FieldError: a value has the wrong type or range, or the heads do not divide.
    """
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    bias = read.flag("attention_bias")
    return Architecture(
        model_type=str(read.get("model_type")),
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads(read, heads),
        head_dim=read.size_or_none("head_dim") or head_dim(read, hidden, heads),
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        max_position_embeddings=read.size("max_position_embeddings"),
        attention_bias=bias,
        output_bias=bias,
        hidden_act=read.choice(act, ACTIVATIONS),
        dropout=Dropout(attention=read.rate("attention_dropout")),
    )
