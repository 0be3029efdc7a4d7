"""Manifests of mechanisms with mistakes in them, and with sizes that no machine has."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from memplan import programs
from memplan.cli import main

GIVEN = {
    "buffers": ("tokens", "vocabulary", "embedding", "state", "output"),
    "episodic_memory": ("memory_size", "key_size"),
    "equilibrium_propagation": ("width", "batch"),
    "large_context": ("heads", "hidden", "vocab", "context"),
}
FEW = {"equilibrium_propagation": "depth: 3", "large_context": "layers: 3"}
"""How often something is repeated decides how long a simulation takes, and is small here."""


def manifest(folder: Path, mechanism: str, values: str, rest: str = "") -> str:
    path = folder / "memplan.yaml"
    path.write_text(f"memplan: 1\nmodel:\n  mechanism: {mechanism}\n  values: {{{values}}}\n{rest}")
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.mark.parametrize("mechanism", GIVEN)
def test_the_largest_sizes_do_not_fit(
    mechanism: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    most = {setting.name: setting.most for setting in programs.find(mechanism).SETTINGS}
    sizes = [f"{name}: {most[name]}" for name in GIVEN[mechanism]]
    values = ", ".join([*sizes, *([FEW[mechanism]] if mechanism in FEW else [])])
    config = manifest(tmp_path, mechanism, values, "target: {gpu: t4, ram: 64GiB}\n")
    code, text = said(capsys, "estimate", config, "--format", "json")
    assert (code, '"verdict": "does_not_fit"' in text) == (1, True)


def test_declared_tensors_beyond_all_addresses_do_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "memplan.yaml"
    side = 2**40
    tensor = f"shape: [{side}, {side}, {side}, {side}]"
    path.write_text(f"memplan: 1\nmodel: {{tensors: {{w: {{{tensor}}}}}}}\ntarget: {{gpu: t4}}\n")
    assert said(capsys, "estimate", str(path))[0] == 1


def test_a_misspelt_setting_is_refused_where_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = manifest(tmp_path, "episodic_memory", "memory_size: 100, key_size: 64, read_chunks: 5")
    code, text = said(capsys, "estimate", config)
    assert code == 2
    assert "memplan.yaml:4:57: model.values.read_chunks: is no setting of episodic_memory" in text
    assert "did you mean read_chunk?" in text


def test_a_value_may_size_a_tensor_beside_the_mechanism(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = "  tensors: {table: {shape: [rows, 8]}, rest: {per: {blocks: 1MB}}}\n"
    values = "memory_size: 100, key_size: 64, rows: 5, blocks: 3"
    assert said(capsys, "estimate", manifest(tmp_path, "episodic_memory", values, tensors))[0] == 0


def test_a_setting_that_has_its_default_may_size_a_tensor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = "  tensors: {mask: {shape: [batch, sequence]}}\n"
    config = manifest(tmp_path, "episodic_memory", "memory_size: 100, key_size: 64", tensors)
    code, text = said(capsys, "estimate", config)
    assert (code, "mask" in text and "32.0 KiB" in text) == (0, True)


def test_settings_that_contradict_are_told_of_in_the_file_they_stand_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loop.py").write_text("tokens = 500\nchunk = 900\n")
    sizes = "vocabulary: 10, embedding: 8, state: 8, output: 8, tokens: 500"
    config = manifest(tmp_path, "buffers", f"{sizes}, chunk: {{file: loop.py, key: chunk}}")
    code, text = said(capsys, "estimate", config)
    assert code == 2
    assert "loop.py:2:9: model.values.chunk: is 900, and there are 500 tokens" in text
    assert "named by" in text


def test_an_explanation_is_as_long_for_many_layers_as_for_few(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lengths = []
    for depth in (3, 300):
        config = manifest(tmp_path, "equilibrium_propagation", f"depth: {depth}, width: 8, batch: 4")
        code, text = said(capsys, "explain", config)
        assert code == 0
        assert "\n   " not in "\n".join(line for line in text.splitlines() if "samples" in line)
        lengths.append(len(text.splitlines()))
    assert all(one == other for one, other in pairwise(lengths))


def test_the_gate_says_what_is_missing_of_what_is_needed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = "depth: 400, width: 64, batch: 12800, method: autograd"
    config = manifest(tmp_path, "equilibrium_propagation", values, "target: {gpu: gtx1650}\n")
    missing = [
        next(part for part in said(capsys, verb, config)[1].replace(":", ",").split(", ") if word in part)
        for verb, word in (("estimate", "missing"), ("check", "too much"))
    ]
    assert missing[0].removesuffix(" missing") in missing[1]
