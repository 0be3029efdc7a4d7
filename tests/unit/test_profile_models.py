"""Architectures of hub models, against a closed form, the transformers classes and published files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memplan import families, profiles

SHARED = Path(os.environ.get("MEMPLAN_SHARED", Path(__file__).resolve().parents[2] / "../shared"))
MODELS = tuple(profiles.model(hub_id) for hub_id in profiles.model_ids())
ARCHITECTURES = {model.architecture: model for model in MODELS if model is not None}
# A quantized copy has the weights of the model it was made of.
PLAIN = {
    tuple(
        sorted((key, repr(value)) for key, value in model.config.items() if key != "quantization_config")
    ): name
    for name, model in reversed(ARCHITECTURES.items())
}
SIMULATED = [name for name in PLAIN.values() if ARCHITECTURES[name].model_type in families.known()]


NORMS = {"gemma2": (4, 0), "gemma3_text": (4, 2), "qwen3": (2, 2)}
"""Norms of a block, of the hidden size and of the size of a head, where they are not (2, 0)."""

LLAMA_LIKE = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3")


def _closed_form(config: Any) -> int:
    """Weights of a gated-MLP decoder with RMSNorm: embeddings, blocks, final norm, and an untied head."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim", hidden // heads)
    queries, keys = heads * head, config["num_key_value_heads"] * head
    biases = queries + 2 * keys if config["model_type"] == "qwen2" else 0
    of_hidden, of_head = NORMS.get(config["model_type"], (2, 0))
    block = (
        2 * hidden * queries
        + 2 * hidden * keys
        + biases
        + 3 * hidden * config["intermediate_size"]
        + of_hidden * hidden
        + of_head * head
    )
    tables = 1 if config["tie_word_embeddings"] else 2
    return int(tables * config["vocab_size"] * hidden + config["num_hidden_layers"] * block + hidden)


@pytest.mark.parametrize("name", [name for name in SIMULATED if ARCHITECTURES[name].model_type in LLAMA_LIKE])
def test_parameters_equal_the_closed_form(name: str) -> None:
    model = ARCHITECTURES[name]
    assert model.parameters == _closed_form(model.config)


@pytest.mark.parametrize("name", SIMULATED)
def test_parameters_equal_those_of_the_simulated_model(name: str) -> None:
    model = ARCHITECTURES[name]
    assert families.architecture(model.config, lambda _: None).parameters == model.parameters


@pytest.mark.parametrize("name", sorted(set(PLAIN.values()) - set(SIMULATED)))
def test_a_model_that_is_not_simulated_is_known_by_its_dimensions(name: str) -> None:
    model = ARCHITECTURES[name]
    shape = families.architecture(model.config, lambda _: None)
    assert shape.model_type == model.model_type
    assert shape.num_hidden_layers == model.layers
    assert model.parameters >= shape.vocab_size * shape.hidden_size


@pytest.mark.parametrize("name", SIMULATED)
def test_parameters_equal_those_of_the_transformers_class(name: str) -> None:
    torch = pytest.importorskip("torch", reason="needs torch to build the model on the meta device")
    transformers = pytest.importorskip("transformers", reason="needs the transformers model class")
    model = ARCHITECTURES[name]
    fields = {key: value for key, value in model.config.items() if key not in ("model_type", "torch_dtype")}
    config = transformers.AutoConfig.for_model(model.config["model_type"], **fields)
    named = model.config.get("architectures")
    kind = getattr(transformers, str(named[0]))._from_config if isinstance(named, list | tuple) else None
    with torch.device("meta"):
        built = (kind or transformers.AutoModelForCausalLM.from_config)(config)
    assert model.parameters == sum(weight.numel() for weight in built.parameters())


def _real_configs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((SHARED / "corpus").glob("**/*--*_config.json")):
        hub_id = path.name.removesuffix("_config.json").replace("--", "/")
        if profiles.model(hub_id) is not None:
            yield hub_id, json.loads(path.read_text(encoding="utf-8"))


def test_configs_equal_the_published_files_at_hand() -> None:
    compared = 0
    for hub_id, published in _real_configs():
        model = profiles.model(hub_id)
        assert model is not None
        for key, value in model.config.items():
            if key in published:
                found = published[key]
                if isinstance(value, dict):
                    found = {name: found[name] for name in value}
                assert value == found, (hub_id, key)
                compared += 1
    if not compared:
        pytest.skip("no published config.json is at hand")


def test_exact_counts_of_measured_models_agree() -> None:
    yaml = pytest.importorskip("yaml")
    path = SHARED / "truth" / "models.yaml"
    if not path.exists():
        pytest.skip("the architectures of the measured models are not at hand")
    exact = {
        hub_id: fields
        for hub_id, fields in yaml.safe_load(path.read_text(encoding="utf-8"))["models"].items()
        if "params_exact" in fields
    }
    known = {hub_id: profiles.model(hub_id) for hub_id in exact}
    assert {hub_id for hub_id, model in known.items() if model is None} == set()
    for hub_id, model in known.items():
        assert model is not None
        assert model.parameters == exact[hub_id]["params_exact"]


def test_a_hub_id_is_found_whatever_its_case() -> None:
    model = profiles.model("META-LLAMA/llama-3.1-8b")
    assert model is not None
    assert (model.id, model.parameters) == ("meta-llama/Llama-3.1-8B", 8_030_261_248)
    assert profiles.model("nobody/nothing") is None


def test_a_head_dim_is_given_where_it_is_not_hidden_size_over_heads() -> None:
    model = profiles.model("mistralai/Mistral-Nemo-Base-2407")
    assert model is not None
    assert model.config["head_dim"] == 128
