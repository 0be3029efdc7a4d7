"""Declared models whose run a program simulates: read, estimated, planned and rewritten."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memplan import programs
from memplan.apply import apply
from memplan.check import check
from memplan.dialects.overrides import override
from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError
from memplan.domain.estimate import Verdict
from memplan.domain.harm import Harm
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.estimate import estimate
from memplan.fit import fit
from memplan.read import read
from tests.unit.programs import trial

MIB = 2**20


@pytest.fixture(autouse=True)
def only_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PROGRAMS", (trial,))


def config(folder: Path, values: str = "rows: 65536", rest: str = "") -> Path:
    (folder / "train.yaml").write_text("memory:\n  chunk: 65536  # all at once\n  form: copied\n")
    path = folder / "memplan.yaml"
    path.write_text(f"memplan: 1\nmodel:\n  mechanism: trial\n  values: {{{values}}}\n{rest}")
    return path


def model(**values: int | str) -> Workload:
    given = {item.name: item.default for item in trial.SETTINGS if item.default is not None} | values
    return Workload(model=DeclaredModel(mechanism="trial", values=tuple(given.items())))


def settings(workload: Workload) -> dict[str, int | str]:
    assert isinstance(workload.model, DeclaredModel)
    return dict(workload.model.values)


def price(workload: Workload) -> tuple[bool, float]:
    return settings(workload)["form"] == "in_place", round(trial.work(settings(workload)), 2)


def target(mebibytes: int) -> Target:
    return Target(
        name="card", capacity=Bytes(mebibytes * MIB), usable=Bytes(mebibytes * MIB), context=Bytes(0)
    )


def test_settings_have_their_defaults_and_what_the_files_say(tmp_path: Path) -> None:
    reading = read(config(tmp_path, "rows: 70000, chunk: {file: train.yaml, key: memory.chunk}, width: 8"))
    assert settings(reading.workload) == {
        "rows": 70000,
        "chunk": 65536,
        "width": 8,
        "form": "copied",
        "kept": False,
        "device": "cuda",
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("width: 8", "rows is not given, and the mechanism trial needs it"),
        ("rows: 4096, width: 4097", "4097 is too large"),
        ("rows: 4096, form: copy", "copy is not one of its values"),
        ("rows: 4096, kept: 1", "must be true or false"),
        ("rows: 4096, chunk: 5000", "is larger than the table"),
    ],
)
def test_what_a_setting_cannot_be_is_refused_at_its_place(tmp_path: Path, values: str, message: str) -> None:
    with pytest.raises(FieldError, match=message) as caught:
        read(config(tmp_path, values))
    assert caught.value.location is not None
    assert caught.value.location.line == 4


def test_a_mechanism_nobody_wrote_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = config(tmp_path)
    path.write_text(path.read_text().replace("trial", "trail"))
    with pytest.raises(FieldError, match="trail is not one of its values") as caught:
        read(path)
    assert (caught.value.expected, caught.value.hint) == ("trial", "did you mean trial?")


def test_the_estimate_has_the_declared_tensors_and_what_the_program_allocates(tmp_path: Path) -> None:
    path = config(tmp_path, rest="  tensors: {weights: {bytes: 100MiB}}\n")
    found = estimate(read(path).workload).device
    assert {part.name: (part.bytes, part.basis) for part in found.components} == {
        "weights": (100 * MIB, "declared"),
        "table": (256 * MIB, "modelled"),
        "temporaries": (512 * MIB, "modelled"),
    }
    assert dict(found.phases) == {"load": 356 * MIB, "forward": 868 * MIB}


def test_on_the_cpu_everything_is_host_memory_and_nothing_is_rounded() -> None:
    found = estimate(model(rows=1, width=3, device="cpu", kept=True))
    assert found.device.process == 0
    assert found.component("table") == 12
    assert found.host.peak == found.component("libraries") + 36
    assert found.disk == 12


@given(limit=st.integers(250, 800), allow=st.sampled_from([Harm.EXACT, Harm.NUMERIC]))
@example(limit=256, allow=Harm.NUMERIC)
@example(limit=400, allow=Harm.EXACT)
def test_the_plan_is_the_cheapest_of_all_combinations_that_fit(
    tmp_path_factory: pytest.TempPathFactory, limit: int, allow: Harm
) -> None:
    reading = read(config(tmp_path_factory.mktemp("run")))
    forms = ("copied", "in_place") if allow is Harm.NUMERIC else ("copied",)
    every = [
        reading.workload.changed("chunk", chunk).changed("form", form)
        for chunk, form in product([0, *(2**power for power in range(17))], forms)
    ]
    fitting = [entry for entry in every if estimate(entry, target(limit)).verdict is Verdict.FITS]
    found = fit(reading, target(limit), allow=allow)
    assert found.feasible == bool(fitting)
    if found.feasible:
        assert found.after.verdict is Verdict.FITS
        assert price(found.after.workload) == min(map(price, fitting))


def test_a_plan_is_written_where_the_setting_lives_and_changes_nothing_else(tmp_path: Path) -> None:
    path = config(tmp_path, "rows: 65536, chunk: {file: train.yaml, key: memory.chunk}")
    reading = read(path)
    plan = fit(reading, target(400))
    apply(reading, plan)
    assert (tmp_path / "train.yaml").read_text() == (
        "memory:\n  chunk: 16384  # all at once\n  form: copied\n"
    )
    assert fit(read(path), target(400)).changes == ()


def test_a_setting_that_stands_nowhere_is_added_to_the_values(tmp_path: Path) -> None:
    path = config(tmp_path)
    reading = read(path)
    apply(reading, fit(reading, target(400)))
    assert "values: {rows: 65536, chunk: 16384}" in path.read_text()


def test_a_tunable_setting_may_change_more_than_the_policy_allows(tmp_path: Path) -> None:
    values = "rows: 1024, width: 4096, chunk: 1024, form: copied"
    keep = ["chunk"]
    assert not fit(read(config(tmp_path, values)), target(40), keep=keep).feasible
    plan = fit(read(config(tmp_path, values, rest="tunable: [form]\n")), target(40), keep=keep)
    assert plan.feasible
    assert [change.field for change in plan.changes] == ["form"]


def test_what_does_not_fit_says_what_blocks_and_what_more_harm_would_give(tmp_path: Path) -> None:
    values = "rows: 1024, width: 4096, chunk: 1024"
    blocked = fit(read(config(tmp_path, values)), target(15))
    assert (blocked.feasible, blocked.blocking, blocked.offer) == (False, "table", None)
    offered = fit(read(config(tmp_path, values)), target(40), keep=["chunk"])
    assert offered.offer == "--allow numeric fits: form copied → in_place"


def test_a_machine_without_a_gpu_holds_what_runs_there(tmp_path: Path) -> None:
    reading = read(config(tmp_path, "rows: 1048576, width: 256, device: cpu"))
    host = Target.of_host(Bytes(4 * 2**30))
    plan = fit(reading, host, margin="1GiB")
    assert plan.feasible
    assert plan.after.host.high <= 3 * 2**30
    assert plan.changes[0].saves == plan.before.host.peak - plan.after.host.peak


def test_the_command_line_reads_a_setting_as_the_config_does() -> None:
    workload = model(rows=8)
    assert override(workload, "form=in_place") == ("form", "in_place")
    assert override(workload, "kept=true") == ("kept", True)
    with pytest.raises(FieldError, match="inplace is not one of its values"):
        override(workload, "form=inplace")


def test_settings_that_contradict_each_other_after_a_change_are_an_error() -> None:
    with pytest.raises(FieldError, match="chunk: is larger than the table"):
        estimate(model(rows=8, chunk=9))


def test_the_gate_names_the_largest_share_and_what_would_fit(tmp_path: Path) -> None:
    path = config(tmp_path, "rows: 65536, chunk: {file: train.yaml, key: memory.chunk}")
    path.write_text(f"{path.read_text()}target: {{gpu: 400MiB}}\n")
    (finding,) = check([path], planner=fit).findings
    assert finding.code == "MP001"
