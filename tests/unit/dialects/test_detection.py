"""Which dialect a file is in, and that every dialect is listed."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import memplan.dialects
from memplan.dialects import DIALECTS, detect, load, named
from memplan.dialects.reading import Document
from memplan.documents import json, yaml
from memplan.documents.source import Source
from memplan.domain.errors import AmbiguousKeyError, FieldError, UnknownNameError

FILES = [
    ("run.yml", "memplan: 1\nmodel: {ref: x}\n", "native"),
    ("run.yml", "memplan: 1\nmodel: {tensors: {}}\n", "manifest"),
    ("memplan.yaml", "memplan: 1\nconfigs: []\n", "manifest"),
    ("memplan.yaml", "memplan: 1\nmodel: {ref: x}\n", "native"),
    ("memplan.yaml", "model: {}\n", "manifest"),
    ("run.yml", "base_model: x\nsequence_len: 1\n", "axolotl"),
    ("run.yml", "base_model: x\n", "axolotl"),
    ("config.json", '{"model_type": "llama"}', "hf_config"),
    (
        "neox.yml",
        '{"num_layers": 2, "hidden-size": 4, "num_attention_heads": 1, "pos_emb": "rotary"}',
        "gpt_neox",
    ),
    ("run.yml", "trainer: {}\nmodel: {class_path: a.B}\n", "lightning"),
    ("run.yml", "defaults: []\nmodel_name_or_path: org/name\n", "hydra"),
    ("config.json", '{"architectures": ["LlamaForCausalLM"]}', "hf_config"),
]


def document(name: str, text: str) -> Document:
    source = Source.of(text, name)
    return Document(
        path=Path(name), source=source, root=(json if name.endswith("json") else yaml).parse(source)
    )


@pytest.mark.parametrize(("name", "text", "dialect"), FILES)
def test_the_most_specific_keys_decide(name: str, text: str, dialect: str) -> None:
    assert detect(document(name, text)).NAME == dialect


def test_two_that_fit_equally_well_are_both_named() -> None:
    both = document("config.json", '{"model_type": "llama", "base_model": "x"}')
    with pytest.raises(AmbiguousKeyError) as caught:
        detect(both)
    assert "axolotl or hf_config" in caught.value.message
    assert "--dialect axolotl" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["a: 1\n", "- 1\n", "word\n"])
def test_what_fits_none_is_refused_with_the_keys_that_would_do(text: str) -> None:
    with pytest.raises(FieldError) as caught:
        detect(document("x.yml", text))
    assert "base_model" in str(caught.value.expected)


def test_an_unknown_dialect_is_offered_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="axolotl"):
        named("axolotol")


def test_every_module_that_is_a_dialect_is_listed() -> None:
    modules = [
        import_module(f"memplan.dialects.{found.name}")
        for found in pkgutil.iter_modules(memplan.dialects.__path__)
    ]
    assert {module.NAME for module in modules if hasattr(module, "NAME")} == set(DIALECTS)
    for dialect in map(load, DIALECTS):
        assert callable(dialect.read)
        assert callable(dialect.edits)
