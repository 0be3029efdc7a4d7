"""What a real run measures is appended to a record."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan import profiles
from memplan.cli import main
from memplan.documents.source import Source
from memplan.domain.bytes import Bytes
from memplan.domain.errors import MemplanError
from memplan.domain.workload import Adapter, Quantization, Task
from memplan.probe.overhead import installed_build
from memplan.probe.record import FIGURES, LATER_WORDS, VARIABLE, WORDS, Entry, entries, parsed
from memplan.read import read
from memplan.smoke.record import append, described, digest, written
from tests.oracle.libraries import library
from tests.unit.cli.test_target import driver

library("torch")
library("transformers")

from memplan.smoke import systems  # noqa: E402
from memplan.smoke.gpu import driver as seam  # noqa: E402
from tests.unit.smoke.fake_gpu import FakeGpu  # noqa: E402
from tests.unit.test_calibration import CONFIG, text  # noqa: E402

CONTEXT = 300 * 2**20

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
figures = st.fixed_dictionaries({name: st.none() | st.integers(0, 2**50).map(Bytes) for name in FIGURES})
runs = st.builds(
    Entry,
    date=st.dates().map(lambda day: day.isoformat()),
    device=words,
    driver=st.none() | words,
    words=st.fixed_dictionaries(dict.fromkeys(WORDS, words), optional=dict.fromkeys(LATER_WORDS, words)),
    predicted=figures,
    measured=figures,
)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config, a GPU that is none to run it on, and a record that is not there yet."""
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    workload = read(str(path)).workload
    monkeypatch.setattr(seam, "Cuda", lambda: FakeGpu(workload, profiles.target("a100-80gb"), CONTEXT))
    nvml = driver(name=profiles.target("a100-80gb").name, total=80 * 2**30, free=79 * 2**30)
    nvml.__dict__["nvmlSystemGetDriverVersion"] = lambda: "550.54.14"
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "data" / "calibration.yaml"))
    return path


def record(config: Path) -> Path:
    return config.parent / "data" / "calibration.yaml"


def test_runs_on_a_gpu_are_recorded_and_used_by_the_next_estimate(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["smoke", str(config), "--device", "cuda", "--steps", "2"]) == 0
    first, second = entries(record(config))
    assert replace(first, measured=dict(first.measured) | {"overhead": None}) == replace(
        second, measured=dict(second.measured) | {"overhead": None}
    )
    assert first.measured["context"] == CONTEXT
    assert first.measured["process"] == CONTEXT + (first.measured["reserved"] or 0)
    assert first.predicted["reserved"] == first.measured["reserved"]
    assert (first.driver, first.words["workload"]) == ("550.54.14", described(read(str(config)).workload))
    capsys.readouterr()
    assert main(["estimate", str(config), "--gpu", "auto", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["target"]["calibrated"] == {"runs": 2, "date": first.date}
    assert found["device"]["context"] == CONTEXT
    (share,) = [part for part in found["host"]["components"] if part["name"] == "libraries"]
    assert share["basis"] == "measured"
    assert share["bytes"] == max(run.measured["overhead"] or 0 for run in (first, second))
    assert "the libraries' and CUDA's part in host memory is that of 2 runs" in " ".join(found["warnings"])


def test_a_run_on_a_cpu_is_recorded_with_its_resident_memory(config: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["smoke", str(config), "--device", "cpu", "--steps", "1", "--record", str(path)]) in (0, 1)
    (found,) = entries(path)
    assert (found.device, found.driver) == ("cpu", None)
    assert found.measured["allocated"]
    assert found.measured["resident"]
    assert found.measured["context"] is None
    before, expected, allocated = (
        found.measured["overhead"],
        found.predicted["resident"],
        found.predicted["allocated"],
    )
    assert (before, expected) == ((expected or 0) - (allocated or 0), (before or 0) + (allocated or 0))
    assert (found.words["build"], found.words["python"]) == installed_build()
    assert not record(config).exists()


MECHANISM = """\
memplan: 1
model:
  mechanism: episodic_memory
  values: {device: cpu, memory_size: 64, key_size: 16, batch: 1, sequence: 8}
"""


def test_a_mechanism_is_recorded_and_used_by_the_next_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "memplan.yaml"
    path.write_text(MECHANISM, encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "calibration.yaml"))
    monkeypatch.delitem(sys.modules, "transformers")
    assert main(["smoke", str(path), "--steps", "1"]) == 0
    (found,) = entries(tmp_path / "calibration.yaml")
    assert (found.device, found.words["transformers"], found.words["attention"]) == ("cpu", "none", "none")
    assert found.words["workload"].startswith("episodic_memory, ")
    capsys.readouterr()
    assert main(["estimate", str(path), "--ram", "auto", "--format", "json"]) == 0
    share = json.loads(capsys.readouterr().out)["host"]["components"][0]
    assert share == {"name": "libraries", "bytes": found.measured["overhead"], "basis": "measured"}


def test_a_mechanism_that_runs_in_small_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "memplan.yaml"
    path.write_text(MECHANISM, encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "calibration.yaml"))
    monkeypatch.setattr(systems, "in_small", lambda _: True)
    assert main(["smoke", str(path), "--steps", "1"]) == 0
    assert not (tmp_path / "calibration.yaml").exists()


def test_what_runs_in_small_is_told_by_its_settings(tmp_path: Path) -> None:
    large = tmp_path / "memplan.yaml"
    values = "{layers: 24, heads: 16, hidden: 1024, vocab: 50257, context: 131072}"
    large.write_text(f"memplan: 1\nmodel: {{mechanism: large_context, values: {values}}}\n")
    small = tmp_path / "other.yaml"
    small.write_text(MECHANISM, encoding="utf-8")
    assert systems.in_small(read(str(large)).workload)
    assert not systems.in_small(read(str(small)).workload)


def test_what_measures_nothing_of_this_gpu_leaves_no_context(config: Path) -> None:
    command = ["smoke", str(config), "--steps", "2"]
    assert main([*command, "--device", "fake"]) == 0
    assert main([*command, "--device", "cuda", "--no-record"]) == 0
    assert main([*command, "--device", "cuda", "--cap", "1MiB"]) == 1
    assert not record(config).exists()
    assert main([*command, "--device", "cuda", "--gpu", "t4", "--set", "precision.params=fp16"]) == 0
    (emulated,) = entries(record(config))
    assert (emulated.measured["process"], emulated.measured["context"]) == (None, None)


def test_a_broken_record_is_refused_before_anything_runs(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(config).parent.mkdir()
    record(config).write_text("- schema: other/1\n", encoding="utf-8")
    assert main(["smoke", str(config), "--device", "cuda"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"{record(config)}:1:11" in captured.err
    assert record(config).read_text(encoding="utf-8") == "- schema: other/1\n"


def test_a_record_that_cannot_be_written_after_the_run_does_not_cost_its_figures(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("memplan.smoke.record.Path.replace", full)
    assert main(["smoke", str(config), "--device", "cuda", "--steps", "2"]) == 0
    assert "not recorded" in capsys.readouterr().out
    assert list(record(config).parent.iterdir()) == []


def test_where_a_record_is_asked_for_it_has_to_be_possible(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, why in ((config.parent, "is a directory"), (config / "below", "cannot be written")):
        assert main(["smoke", str(config), "--device", "cuda", "--record", str(path)]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert why in captured.err


def test_a_record_that_cannot_be_reached_costs_nothing(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, str(config / "below" / "calibration.yaml"))
    assert main(["estimate", str(config), "--gpu", "auto"]) == 0
    assert main(["smoke", str(config), "--device", "cuda", "--steps", "2"]) == 0
    assert "not recorded" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [["--device", "cpu", "--record", "x", "--no-record"], ["--record", "x"]],
    ids=["both", "fake"],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", str(config), *options]) == 2
    assert "--record" in capsys.readouterr().err


@given(runs)
def test_an_entry_is_read_as_it_was_written(entry: Entry) -> None:
    assert parsed(Source.of(written(entry))) == (entry,)


def test_appending_keeps_every_byte_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    before = f"# mine\r\n{text(1)}# the end"
    path.write_text(before, encoding="utf-8", newline="")
    (entry,) = entries(path)
    append(path, entry)
    assert path.read_bytes().startswith(before.encode())
    assert entries(path) == (entry, entry)


def test_a_record_in_brackets_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    (entry,) = parsed(Source.of(text(1)))
    path.write_text("[]\n", encoding="utf-8")
    with pytest.raises(MemplanError, match="cannot be appended to"):
        append(path, entry)
    assert path.read_text(encoding="utf-8") == "[]\n"
    assert list(tmp_path.iterdir()) == [path]


def test_runs_that_end_at_once_are_all_recorded(tmp_path: Path) -> None:
    path = tmp_path / "calibration.yaml"
    (entry,) = parsed(Source.of(text(1)))
    mine = [replace(entry, device=f"GPU {number}") for number in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: append(path, each), mine))
    assert sorted(each.device for each in entries(path)) == sorted(each.device for each in mine)


def test_a_workload_is_told_by_its_digest_and_in_words(config: Path) -> None:
    workload = read(str(config)).workload
    assert digest(workload) == digest(read(str(config)).workload)
    assert len({digest(workload), digest(workload.changed("batch.micro", 3))}) == 2
    said = described(replace(workload, adapter=Adapter(), quantization=Quantization(kind="nf4")))
    assert said.startswith("train, llama of ")
    assert said.endswith("checkpointing none, lora of rank 8, nf4")
    assert "2048+128 tokens" in described(replace(workload, task=Task.GENERATE))
