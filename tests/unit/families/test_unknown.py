"""A model type that no family covers: an answer with bounds, and never a confident one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan import profiles
from memplan.cli import main
from memplan.domain.errors import UnknownNameError
from memplan.domain.estimate import Verdict
from memplan.estimate import estimate
from memplan.families import architecture

ZEBRA = {"model_type": "zebra", "n_embd": 256, "n_layer": 3, "n_head": 4, "vocab_size": 1000}


def test_dimensions_are_found_under_their_other_names() -> None:
    shape = architecture(ZEBRA, lambda _: None)
    assert (shape.model_type, shape.hidden_size, shape.num_hidden_layers) == ("zebra", 256, 3)
    assert shape.parameters > 1000 * 256


def test_a_mixture_counts_all_its_experts() -> None:
    wide = ZEBRA | {"num_experts": 8, "moe_intermediate_size": 64}
    assert architecture(wide, lambda _: None).intermediate_size == 512


def test_a_text_config_is_looked_into() -> None:
    inner = {key: value for key, value in ZEBRA.items() if key != "model_type"}
    shape = architecture({"model_type": "zebra", "text_config": inner}, lambda _: None)
    assert shape.hidden_size == 256


@pytest.mark.parametrize(("key", "layers"), [("layers_block_type", ["mamba", "moe"]), ("layer_types", "M*")])
def test_a_list_of_layers_says_how_many_there_are(key: str, layers: object) -> None:
    rest = {name: value for name, value in ZEBRA.items() if name != "n_layer"}
    assert architecture(rest | {key: layers}, lambda _: None).num_hidden_layers == 2


@pytest.mark.parametrize("key", ["n_embd", "n_layer", "n_head", "vocab_size"])
def test_without_its_dimensions_there_is_no_answer(key: str) -> None:
    rest = {name: value for name, value in ZEBRA.items() if name != key}
    with pytest.raises(UnknownNameError, match="zebra"):
        architecture(rest, lambda _: None)


@pytest.mark.parametrize(("gpu", "verdict"), [("b200", Verdict.UNDECIDED), ("256KiB", Verdict.DOES_NOT_FIT)])
def test_no_gpu_is_large_enough_to_be_sure(tmp_path: Path, gpu: str, verdict: Verdict) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(ZEBRA))
    code = {Verdict.UNDECIDED: 3, Verdict.DOES_NOT_FIT: 1}[verdict]
    assert main(["estimate", str(path), "--gpu", gpu]) == code
    assert main(["fit", str(path), "--gpu", gpu]) == code
    assert main(["check", str(path), "--gpu", gpu]) == code


def test_what_is_certain_is_the_vocabulary_matrix(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(ZEBRA))
    from memplan.read import read

    device = estimate(read(path).workload, profiles.target("rtx3090")).device
    assert device.low <= 1000 * 256 * 2 + 1024
    assert any(gap.unbounded and "zebra" in gap.reason for gap in device.gaps)
