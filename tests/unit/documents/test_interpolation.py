"""Interpolations of OmegaConf: what the file answers is read, nothing of it is edited from there."""

from __future__ import annotations

import time

import pytest

from memplan.documents import interpolation
from memplan.documents.interpolation import resolved
from memplan.documents.source import Source
from memplan.documents.tree import MappingNode, Node, ScalarNode, plain, scalars
from memplan.documents.yaml import parse
from memplan.documents.yaml_resolvers import Resolver

TEXT = """variables: {seq: 2048, name: llama, list: [1, {a: 2}]}
seq: ${variables.seq}
model:
  length: ${..seq}
  copy: ${.length}
  whole: ${variables}
  item: ${variables.list[1].a}
  text: "${variables.name}-${variables.seq}/${.item}"
  chosen: ${oc.select:variables.seq,8}
  home: ${oc.env:HOME}/x
  date: ${now:%Y}
  gone: ${nothing.here}
  other: ${oc.select:elsewhere.x,8}
"""


def read(text: str) -> Node:
    source = Source.of(text, "c.yaml")
    return resolved(source, parse(source, resolver=Resolver.OMEGACONF))


def at(node: Node, *path: str) -> Node:
    for step in path:
        assert isinstance(node, MappingNode)
        found = node.get(step)
        assert found is not None
        node = found
    return node


def test_what_the_file_answers_is_read() -> None:
    found = plain(read(TEXT))
    assert found["seq"] == 2048
    assert found["model"] == {
        "length": 2048,
        "copy": 2048,
        "whole": {"seq": 2048, "name": "llama", "list": [1, {"a": 2}]},
        "item": 2,
        "text": "llama-2048/2",
        "chosen": 2048,
        "home": "${oc.env:HOME}/x",
        "date": "${now:%Y}",
        "gone": "${nothing.here}",
        "other": "${oc.select:elsewhere.x,8}",
    }


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("length", "it is ${..seq}, which stands for what line 2 says"),
        ("chosen", "line 1"),
        ("text", "values written elsewhere"),
        ("home", "the environment variable HOME"),
        ("date", "computed by now"),
        ("gone", "this file does not answer"),
        ("other", "computed by oc.select"),
    ],
)
def test_nothing_is_edited_where_it_is_only_referred_to(key: str, reason: str) -> None:
    node = at(read(TEXT), "model", key)
    assert isinstance(node, ScalarNode)
    assert reason in (node.fixed or "")
    assert node.text in TEXT
    assert all(leaf.fixed for leaf in scalars(at(read(TEXT), "model", "whole")))
    target = at(read(TEXT), "variables", "seq")
    assert target.fixed is None


def test_what_the_library_answers_is_the_same() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(TEXT)
    found = plain(read(TEXT))["model"]
    for key in ("length", "copy", "item", "text", "chosen"):
        assert config.model[key] == found[key]


@pytest.mark.parametrize(
    "text",
    [
        "a: ${b}\nb: ${a}\n",
        "a: ${a}\n",
        "a: {b: '${a}'}\n",
        "a: {b: '${..a}'}\n",
        "a: [1, '${a[1]}']\n",
        "a: ${b}x\nb: ${a}y\n",
        "a: ${l[5]}\nl: [1]\n",
        "a: ${.....b}\n",
        "a: ${b.${c}}\nb: {x: 1}\nc: x\n",
        "a: \\${b}\nb: 1\n",
        "a: ${\n",
        "a: ${}\n",
    ],
)
def test_what_has_no_answer_keeps_its_text(text: str) -> None:
    before = plain(parse(Source.of(text)))
    assert plain(read(text)) == before
    assert any(leaf.fixed for leaf in scalars(read(text)))


def test_of_equal_keys_the_last_is_meant() -> None:
    source = Source.of("a: 1\na: 2\nb: ${a}\n")
    assert plain(resolved(source, parse(source))) == {"a": 2, "b": 2}


def test_references_that_multiply_or_chain_come_to_an_end() -> None:
    doubled = "a0: {x: 1}\n" + "".join(
        f"a{n}: {{x: '${{a{n - 1}}}', y: '${{a{n - 1}}}'}}\n" for n in range(1, 60)
    )
    texts = "a0: xxxxxxxx\n" + "".join(f"a{n}: '${{a{n - 1}}}${{a{n - 1}}}'\n" for n in range(1, 60))
    chain = "".join(f"a{n}: ${{a{n + 1}}}\n" for n in range(3000)) + "a3000: 7\n"
    started = time.process_time()
    spaces = "k: '${" + " " * 100_000 + "'\n"
    for text in (doubled, texts, chain, spaces, "k: '" + "${" * 100_000 + "'\n"):
        assert sum(1 for _ in scalars(read(text))) <= 4 * interpolation.LARGEST_EXPANSION
    assert time.process_time() - started < 20
