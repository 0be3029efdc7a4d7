"""Parameter counts and class defaults against transformers' own models, made on the meta device."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.families import architecture
from tests.oracle.libraries import library

torch = library("torch")
transformers = library("transformers")

TYPES = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "granite",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "smollm3",
    "olmo2",
)
ONLY_THERE = {"pad_token_id": 0}
"""Given to the real classes: Phi-3's default does not lie within a small vocabulary."""
REAL: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-3.1-8B": (
        {
            "model_type": "llama",
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
        },
        8_030_261_248,
    ),
    "Llama-3.2-1B": (
        {
            "model_type": "llama",
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "vocab_size": 128256,
            "tie_word_embeddings": True,
        },
        1_235_814_400,
    ),
    "Mistral-7B-v0.1": ({"model_type": "mistral"}, 7_241_732_096),
    "Qwen2.5-0.5B": (
        {
            "model_type": "qwen2",
            "hidden_size": 896,
            "intermediate_size": 4864,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
        },
        494_032_768,
    ),
}
"""Configurations and the parameter counts their authors publish."""

FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
    "max_position_embeddings",
)


def their_config(config: dict[str, Any]) -> Any:
    """The configuration object of transformers."""
    values = {key: value for key, value in config.items() if key != "model_type"}
    return transformers.AutoConfig.for_model(config["model_type"], **ONLY_THERE, **values)


def their_count(config: dict[str, Any]) -> int:
    """Parameters of the real class, tied ones once."""
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(their_config(config))
    return int(sum(parameter.numel() for parameter in model.parameters()))


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Small configurations: any of the keys absent, heads that divide, biases where they are read."""
    groups, keys, width = (draw(st.integers(1, 4)) for _ in range(3))
    heads = groups * keys
    drawn: dict[str, Any] = {
        "model_type": draw(st.sampled_from(TYPES)),
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
        "hidden_size": heads * width * 2,
        "num_hidden_layers": draw(st.integers(1, 3)),
    }
    optional: dict[str, st.SearchStrategy[Any]] = {
        "intermediate_size": st.integers(1, 99),
        "vocab_size": st.integers(2, 99),
        "head_dim": st.integers(1, 8).map(lambda half: 2 * half),
        "tie_word_embeddings": st.booleans(),
        "attention_bias": st.booleans(),
        "mlp_bias": st.booleans(),
    }
    for key, values in optional.items():
        if draw(st.booleans()):
            drawn[key] = draw(values)
    return drawn


@settings(max_examples=60, deadline=None)
@given(configs())
def test_any_configuration_has_as_many_parameters_as_the_real_class(config: dict[str, Any]) -> None:
    assert architecture(config, lambda _: None).parameters == their_count(config)


@pytest.mark.parametrize("name", REAL)
def test_published_models_have_their_published_counts(name: str) -> None:
    config, published = REAL[name]
    assert architecture(config, lambda _: None).parameters == published == their_count(config)


TOWER = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}
GEMMA3_4B = {
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 34,
    "sliding_window": 1024,
}


@pytest.mark.parametrize(
    ("parts", "published"),
    [
        ({"text_config": GEMMA3_4B, "vision_config": TOWER}, 4_300_079_472),
        ({"vision_config": {"num_hidden_layers": 2}}, None),
        ({"text_config": {"num_hidden_layers": 2}, "tie_word_embeddings": False}, None),
        ({}, None),
    ],
    ids=str,
)
def test_gemma3_counts_its_vision_tower(parts: dict[str, Any], published: int | None) -> None:
    config = {"model_type": "gemma3"} | parts
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**config))
    real = sum(parameter.numel() for parameter in model.parameters())
    assert architecture(config, lambda _: None).parameters == real
    assert published in (None, real)


@pytest.mark.parametrize("model_type", TYPES)
def test_absent_keys_mean_what_the_real_class_takes_them_for(model_type: str) -> None:
    ours = architecture({"model_type": model_type}, lambda _: None)
    theirs = their_config({"model_type": model_type})
    assert {name: getattr(ours, name) for name in FIELDS} == {name: getattr(theirs, name) for name in FIELDS}


@pytest.mark.parametrize("flag", [None, False, True])
@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_qwen_slides_its_window_only_when_told_to(model_type: str, flag: bool | None) -> None:
    config: dict[str, Any] = {"model_type": model_type, "sliding_window": 512}
    if flag is not None:
        config["use_sliding_window"] = flag
    assert architecture(config, lambda _: None).sliding_window == their_config(config).sliding_window


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "qwen2", "use_sliding_window": True},
        {"model_type": "qwen3", "use_sliding_window": True, "max_window_layers": 3},
        {"model_type": "qwen3", "use_sliding_window": True, "max_window_layers": 0},
        {"model_type": "qwen3"},
        {"model_type": "gemma2"},
        {"model_type": "gemma2", "num_hidden_layers": 2, "layer_types": ["full_attention"] * 2},
        {"model_type": "gemma3_text"},
        {"model_type": "gemma3_text", "sliding_window_pattern": 4},
    ],
    ids=str,
)
def test_blocks_attend_as_far_as_in_the_real_class(config: dict[str, Any]) -> None:
    ours, theirs = architecture(config, lambda _: None), their_config(config)
    assert list(ours.layer_types) == theirs.layer_types
    assert ours.sliding_window == theirs.sliding_window


@pytest.mark.parametrize(
    ("written", "width"),
    [
        ({}, 96),
        ({"partial_rotary_factor": 0.5}, 48),
        ({"partial_rotary_factor": 0.5, "rope_scaling": {"type": "default"}}, 48),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.75}}, 72),
    ],
    ids=str,
)
def test_phi3_turns_as_much_of_a_head_as_the_real_class(written: dict[str, Any], width: int) -> None:
    config = {"model_type": "phi3"} | written
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(their_config(config))
    real = 2 * len(model.model.rotary_emb.inv_freq)
    assert architecture(config, lambda _: None).rotary_dim == width == real
