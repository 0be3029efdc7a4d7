"""Parameter counts and class defaults of decoders with layer norms against transformers' own models."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.errors import FieldError
from memplan.families import architecture
from tests.oracle.test_parameters import their_config, their_count

ATTENDING = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
NAMES: dict[str, tuple[str, ...]] = {
    "gpt2": (*ATTENDING, "max_position_embeddings", "tie_word_embeddings"),
    "gpt_bigcode": (*ATTENDING, "max_position_embeddings", "tie_word_embeddings"),
    "gpt_neox": (*ATTENDING, "max_position_embeddings", "tie_word_embeddings", "intermediate_size"),
    "opt": (*ATTENDING, "max_position_embeddings", "tie_word_embeddings"),
    "falcon": (*ATTENDING, "max_position_embeddings", "tie_word_embeddings"),
}
"""What our architectures and their configurations call the same."""

SWITCHES: dict[str, tuple[str, ...]] = {
    "gpt2": ("tie_word_embeddings",),
    "gpt_bigcode": ("tie_word_embeddings",),
    "gpt_neox": ("tie_word_embeddings", "attention_bias", "use_parallel_residual"),
    "opt": (
        "tie_word_embeddings",
        "enable_bias",
        "do_layer_norm_before",
        "layer_norm_elementwise_affine",
        "_remove_final_layer_norm",
    ),
    "falcon": ("tie_word_embeddings", "bias", "multi_query"),
}
INNER = {
    "gpt2": "n_inner",
    "gpt_bigcode": "n_inner",
    "gpt_neox": "intermediate_size",
    "opt": "ffn_dim",
    "falcon": "ffn_hidden_size",
}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Small configurations with any of the keys absent."""
    model_type = draw(st.sampled_from(sorted(NAMES)))
    keys, groups, width = (draw(st.integers(1, 3)) for _ in range(3))
    drawn: dict[str, Any] = {
        "model_type": model_type,
        "num_attention_heads": keys * groups,
        "hidden_size": keys * groups * width * 8,
        "num_hidden_layers": draw(st.integers(1, 3)),
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        INNER[model_type]: st.integers(1, 99),
        "vocab_size": st.integers(2, 99),
        "max_position_embeddings": st.integers(1, 99),
    }
    if model_type == "opt":
        optional["word_embed_proj_dim"] = st.integers(1, 32)
    if model_type == "falcon" and draw(st.booleans()):
        drawn |= {"new_decoder_architecture": True, "num_kv_heads": keys}
        optional["num_ln_in_parallel_attn"] = st.integers(1, 2)
    elif model_type == "falcon":
        optional["parallel_attn"] = st.booleans()
    optional |= {name: st.booleans() for name in SWITCHES[model_type]}
    for key, values in optional.items():
        if draw(st.booleans()):
            drawn[key] = draw(values)
    return drawn


@settings(max_examples=80, deadline=None)
@given(configs())
def test_any_configuration_has_as_many_parameters_as_the_real_class(config: dict[str, Any]) -> None:
    assert architecture(config, lambda _: None).parameters == their_count(config)


@pytest.mark.parametrize("model_type", NAMES)
def test_absent_keys_mean_what_the_real_class_takes_them_for(model_type: str) -> None:
    ours = architecture({"model_type": model_type}, lambda _: None)
    theirs = their_config({"model_type": model_type})
    names = NAMES[model_type]
    assert {name: getattr(ours, name) for name in names} == {name: getattr(theirs, name) for name in names}


def test_absent_dropout_is_what_the_real_classes_drop_out() -> None:
    found = {name: architecture({"model_type": name}, lambda _: None).dropout for name in NAMES}
    gpt2, bigcode, neox, opt, falcon = (their_config({"model_type": name}) for name in NAMES)
    assert [(rates.embedding, rates.hidden, rates.attention) for rates in found.values()] == [
        (gpt2.embd_pdrop, gpt2.resid_pdrop, gpt2.attn_pdrop),
        (bigcode.embd_pdrop, bigcode.resid_pdrop, bigcode.attn_pdrop),
        (neox.hidden_dropout, neox.hidden_dropout, neox.attention_dropout),
        (0.0, opt.dropout, opt.attention_dropout),
        (0.0, falcon.hidden_dropout, falcon.attention_dropout),
    ]


def test_gpt2_goes_by_either_of_its_names() -> None:
    plain = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32}
    other = {
        "model_type": "gpt2",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
    }
    assert architecture(plain, lambda _: None) == architecture(other, lambda _: None)


@pytest.mark.parametrize(
    ("written", "turning"),
    [
        ({}, 24),
        ({"rotary_pct": 0.5}, 48),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 1.0}}, 96),
    ],
    ids=str,
)
def test_gpt_neox_turns_as_much_of_a_head_as_the_real_class(written: dict[str, Any], turning: int) -> None:
    config = {"model_type": "gpt_neox"} | written
    share = their_config(config).rope_parameters["partial_rotary_factor"]
    assert architecture(config, lambda _: None).rotary_dim == turning == int(96 * share)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "falcon", "alibi": True}, "alibi"),
        ({"model_type": "falcon", "new_decoder_architecture": True, "parallel_attn": False}, "parallel_attn"),
        ({"model_type": "falcon", "num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn"),
        (
            {"model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 3},
            "num_kv_heads",
        ),
        ({"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention"),
        ({"model_type": "gpt2", "reorder_and_upcast_attn": True}, "reorder_and_upcast_attn"),
        ({"model_type": "gpt2", "n_head": 7}, "n_embd"),
        ({"model_type": "gpt2", "activation_function": "gelu_10"}, "activation_function"),
        ({"model_type": "gpt2", "attn_pdrop": 1.5}, "attn_pdrop"),
        ({"model_type": "opt", "layerdrop": 0.1}, "layerdrop"),
        ({"model_type": "opt", "num_attention_heads": 5}, "hidden_size"),
        ({"model_type": "gpt_neox", "num_attention_heads": 5}, "hidden_size"),
    ],
    ids=str,
)
def test_what_is_not_simulated_is_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        architecture(config, lambda _: None)
    assert str(caught.value).startswith(said)
