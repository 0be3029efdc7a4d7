"""Plans of another experiment, from a file that trains everything to one that reads as planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.cli import main
from memplan.levers import adapter
from memplan.read import read

KEPT = ("optimizer", "loss", "activation_offload", "allocator", "checkpointing", "attention")
ARGUMENTS = ("--allow", "behaviour", *(word for field in KEPT for word in ("--keep", field)))
FILES = {
    "trl": (
        "model_name_or_path: HuggingFaceTB/SmolLM2-1.7B\nmax_length: 512\nper_device_train_batch_size: 1\n",
        "2GiB",
    ),
    "axolotl": ("base_model: HuggingFaceTB/SmolLM2-1.7B\nsequence_len: 512\nmicro_batch_size: 1\n", "4GiB"),
    "llamafactory": (
        "model_name_or_path: HuggingFaceTB/SmolLM2-1.7B\nstage: sft\ndo_train: true\nfinetuning_type: full\n"
        "template: default\ncutoff_len: 512\nper_device_train_batch_size: 1\nbf16: true\n",
        "4GiB",
    ),
    "native": (
        "memplan: 1\nmodel: {ref: HuggingFaceTB/SmolLM2-1.7B}\nsequence: {length: 512}\nbatch: {micro: 1}\n",
        "5GiB",
    ),
}


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A file that trains everything, and memory in which only adapters over 4-bit weights fit."""
    text, memory = FILES[request.param]
    path = tmp_path / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return path, memory


def test_a_plan_file_makes_full_training_qlora(
    config: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, memory = config
    plan = tmp_path / "plan.yaml"
    before = read(path).workload
    assert main(["fit", str(path), "--gpu", memory, *ARGUMENTS, "--out", str(plan)]) == 0
    assert "bitsandbytes" in capsys.readouterr().out
    assert main(["apply", str(path), "--plan", str(plan)]) == 0, capsys.readouterr().err
    after = read(path).workload
    assert after.adapter is not None
    assert after.adapter.rank == 16
    assert after.quantization is not None
    assert (after.quantization.kind, after.quantization.double) == ("nf4", True)
    assert after.batch == before.batch
    assert main(["check", str(path), "--gpu", memory]) == 0


def test_the_way_out_is_offered_in_words(
    config: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, memory = config
    kept = [word for field in KEPT for word in ("--keep", field)]
    assert main(["fit", str(path), "--gpu", memory, *kept]) == 1
    told = capsys.readouterr().out
    assert "adapter none → lora of rank 16, quantization none → nf4" in told
    assert "Adapter(" not in told
    assert "Quantization(" not in told


def test_what_set_says_of_precision_stays_with_adapters(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(FILES["trl"][0], encoding="utf-8")
    asked = read(path, overrides=["precision.params=bf16"]).workload
    options = adapter.options(asked, None)
    assert options
    assert not any("precision.params" in option.changes for option in options)
