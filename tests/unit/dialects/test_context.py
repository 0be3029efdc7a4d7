"""Sequences beyond a model's context."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.domain.finding import Level
from memplan.read import read

SHORT = "base_model: TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T\nsequence_len: {}\n"


def test_longer_sequences_are_a_warning_with_both_places(tmp_path: Path) -> None:
    path = tmp_path / "train.yml"
    path.write_text(SHORT.format(4096))
    (found,) = read(path).findings
    assert (found.line, found.level, found.code) == (2, Level.WARNING, "MP008")
    assert "4096 tokens" in found.message
    assert "train.yml:1, has 2048 positions" in found.message


@pytest.mark.parametrize("text", [SHORT.format(2048), SHORT.format(4096) + "rope_scaling: {type: linear}\n"])
def test_sequences_that_fit_or_are_scaled_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "train.yml"
    path.write_text(text)
    assert read(path).findings == ()


def test_positions_that_are_looked_up_end_with_their_table(tmp_path: Path) -> None:
    path = tmp_path / "train.yml"
    path.write_text("base_model: gpt2\nsequence_len: 2048\nadapter: lora\nlora_target_modules: [c_attn]\n")
    (found,) = read(path).findings
    assert found.level is Level.ERROR
    assert "looking one up beyond fails" in found.message
