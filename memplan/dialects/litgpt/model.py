"""From a checkpoint's folder, a name or a ``model_config`` of litgpt to an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from memplan.dialects import assumed, models
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Intake, Origin
from memplan.documents.tree import MappingNode, plain
from memplan.domain.architecture import Architecture
from memplan.domain.errors import FileAccessError, Location, UnknownNameError

_LLAMA: dict[str, Any] = {
    "norm_class_name": "RMSNorm",
    "mlp_class_name": "LLaMAMLP",
    "rotary_percentage": 1.0,
    "parallel_residual": False,
    "bias": False,
}
NAMED: dict[str, dict[str, Any]] = {
    "micro-llama-300M": {
        **_LLAMA,
        "block_size": 2048,
        "padded_vocab_size": 32000,
        "n_layer": 12,
        "n_head": 16,
        "n_embd": 1024,
        "n_query_groups": 4,
        "intermediate_size": 5632,
    },
    "tiny-llama-1.1b": {
        **_LLAMA,
        "block_size": 2048,
        "padded_vocab_size": 32000,
        "n_layer": 22,
        "n_head": 32,
        "n_embd": 2048,
        "n_query_groups": 4,
        "intermediate_size": 5632,
    },
}
"""Models that have a name in litgpt alone (``configs`` in litgpt/config.py)."""

_DEFAULTS: dict[str, Any] = {
    "block_size": 4096,
    "n_layer": 16,
    "n_head": 32,
    "n_embd": 4096,
    "vocab_size": 50254,
    "padding_multiple": 512,
    "norm_class_name": "LayerNorm",
    "mlp_class_name": "GptNeoxMLP",
    "rotary_percentage": 0.25,
    "parallel_residual": True,
    "bias": True,
}
"""Of the ``Config`` class in litgpt/config.py."""

_SIDES = ("block_size", "n_layer", "n_head", "n_embd", "vocab_size", "padding_multiple")
_OPTIONAL = ("padded_vocab_size", "head_size", "n_query_groups", "intermediate_size")
_ELSEWHERE = ("n_expert", "latent_attention", "sliding_window_size", "norm_qk", "post_attention_norm")


def model(keys: Keys, intake: Intake, beside: Path) -> Architecture:
    """The model that is trained.

    Raises:
        UnknownNameError: the model is neither known offline nor a folder with its ``config.json``.
        FieldError: no model is named, or ``model_config`` describes one that is no Llama and no GPT-NeoX.
    """
    given = keys.get("model_config")
    if given is not None:
        keys.note("model", given)
        return _described(given, intake)
    value = keys.get("checkpoint_dir", "model_name")
    if value is None:
        raise keys.root.fail("checkpoint_dir and model_name are missing", expected="one of the two")
    keys.note("model", value)
    try:
        return (
            _of_folder(keys, value, intake, beside) if keys.has("checkpoint_dir") else _named(value, intake)
        )
    except (FileAccessError, UnknownNameError):
        if intake.given.model is None:
            raise
    keys.origins["model"] = Origin(how="written", note=assumed.BY_OPTION)
    return assumed.named(intake.given.model, intake)


def _of_folder(keys: Keys, value: Value, intake: Intake, beside: Path) -> Architecture:
    """A folder that holds ``config.json`` too, or else the model that its last two names say."""
    name = value.word()
    hub_id = "/".join(PurePosixPath(name).parts[-2:])
    unknown = intake.models.config(hub_id) is None and not intake.given.online
    if _is_here(name, beside) or (unknown and intake.models.named_like(name) is not None):
        return models.of_name(value, intake, beside)
    shape = models.of_hub(hub_id, value, intake)
    note = f"{name} is not here to be read; its name says {hub_id}"
    keys.warn(value, note)
    keys.origins["model"] = Origin(location=value.location, how="assumed", note=note)
    return shape


def _is_here(name: str, beside: Path) -> bool:
    try:
        return any((folder / name / "config.json").is_file() for folder in (beside, Path()))
    except (OSError, ValueError):
        return False


def _named(value: Value, intake: Intake) -> Architecture:
    """litgpt's names are those of the hub, without their owner."""
    name = value.word()
    if name in NAMED:
        return _built(NAMED[name], value, intake)
    known = [hub_id for hub_id in intake.models.hub_ids() if hub_id.rpartition("/")[2] == name]
    if known:
        return models.of_hub(known[0], value, intake)
    raise UnknownNameError.nearest(
        "model known offline",
        name,
        [*NAMED, *(hub_id.rpartition("/")[2] for hub_id in intake.models.hub_ids())],
        location=value.location,
        hint="describe it in model_config",
    )


def _described(value: Value, intake: Intake) -> Architecture:
    entries = value.entries()
    name = entries.get("name")
    if not isinstance(value.node, MappingNode) or not entries:
        raise value.fail("describes nothing", expected="fields of litgpt's Config, such as n_layer: 6")
    for key in _ELSEWHERE:
        if key in entries and entries[key].written().lower() not in ("", "0", "null", "false"):
            raise entries[key].fail("is not modelled", expected="a model built like Llama or GPT-NeoX")
    for key in (*_SIDES, *_OPTIONAL):
        if key in entries and not entries[key].is_null:
            entries[key].whole()
    given = {key: item for key, item in plain(value.node).items() if item is not None}
    known = NAMED.get(name.written(), {}) if name is not None else {}
    return _built({**known, **given}, value, intake)


def _built(given: Mapping[str, Any], value: Value, intake: Intake) -> Architecture:
    config = {**_DEFAULTS, **given}
    multiple = config["padding_multiple"]
    vocabulary = config.get("padded_vocab_size") or -(-config["vocab_size"] // multiple) * multiple
    common = {
        "hidden_size": config["n_embd"],
        "num_hidden_layers": config["n_layer"],
        "num_attention_heads": config["n_head"],
        "max_position_embeddings": config["block_size"],
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
    }
    kinds = (config["norm_class_name"], config["mlp_class_name"], bool(config["parallel_residual"]))
    if kinds == ("RMSNorm", "LLaMAMLP", False) and config["rotary_percentage"] == 1.0:
        own = _llama(config)
    elif kinds[:2] == ("LayerNorm", "GptNeoxMLP"):
        own = _neox(config)
    else:
        raise value.fail(
            "is neither a Llama (RMSNorm, LLaMAMLP, not parallel) nor a GPT-NeoX (LayerNorm, GptNeoxMLP)",
            expected="a model_name that memplan knows, or one of these two",
        )

    def where(_key: str) -> Location:
        return value.location

    return intake.models.architecture({**common, **own}, where)


def _llama(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "intermediate_size": config.get("intermediate_size"),
        "num_key_value_heads": config.get("n_query_groups") or config["n_head"],
        "head_dim": config.get("head_size") or config["n_embd"] // config["n_head"],
        "attention_bias": bool(config["bias"]),
        "mlp_bias": bool(config["bias"]),
    }


def _neox(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "gpt_neox",
        "intermediate_size": config.get("intermediate_size") or 4 * config["n_embd"],
        "rotary_pct": config["rotary_percentage"],
        "use_parallel_residual": bool(config["parallel_residual"]),
    }
