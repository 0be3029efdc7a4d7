"""Host RAM and disk in reports: shares, verdict, and what explain says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from memplan.cli import main
from memplan.domain.host import ActivationOffload
from memplan.estimate import estimate
from memplan.read import read
from memplan.reporters import glossary

TEXT = """memplan: 1
model: {ref: HuggingFaceTB/SmolLM2-135M}
sequence: {length: 256}
optimizer: {name: paged_adamw_8bit}
host: {loading: state_dict, workers: 2}
evaluation: {batch: 8, kept: 2}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "run.yml"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The command with these arguments: what it prints."""

    def printed(*arguments: str) -> str:
        main(list(arguments))
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize(("ram", "verdict"), [("64GiB", "fits"), ("1GiB", "does_not_fit")])
def test_json_has_the_shares_of_host_and_disk_and_one_verdict(
    run: Callable[..., str], config: str, ram: str, verdict: str
) -> None:
    found = json.loads(run("estimate", config, "--gpu", "24GiB", "--ram", ram, "--format", "json"))
    host, disk = found["host"], found["disk"]
    assert found["verdict"] == verdict
    assert host["peak"] == sum(part["bytes"] for part in host["components"]) == max(host["phases"].values())
    assert host["low"] <= host["peak"] <= host["high"]
    assert disk["bytes"] == sum(part["bytes"] for part in disk["components"])


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_a_report_names_ram_with_its_verdict_and_what_lies_on_disk(
    run: Callable[..., str], config: str, form: str
) -> None:
    text = run("estimate", config, "--gpu", "24GiB", "--ram", "1GiB", "--format", form)
    assert "Host RAM of 1.00 GiB: does not fit" in text
    assert "checkpoints" in text


def test_explain_says_what_every_share_of_host_ram_is(run: Callable[..., str], config: str) -> None:
    text = run("explain", config, "loader_workers")
    assert glossary.HOST["loader_workers"] in " ".join(text.split())
    assert "cuda_runtime" not in text


def test_every_share_has_a_meaning(config: str) -> None:
    for kind in ActivationOffload:
        workload = read(config, overrides=(f"activation_offload={kind}",)).workload
        names = {part.name for part in estimate(workload).host.components}
        assert names <= glossary.HOST.keys()
