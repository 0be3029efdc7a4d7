"""Declared tensors made for real: on the processor, without bytes, and on a GPU that is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan import probe, profiles
from memplan.cli import main
from memplan.domain.architecture import DeclaredModel, DeclaredTensor, Role
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import InputError
from memplan.domain.measurement import Measurement
from memplan.domain.trace import Phase
from memplan.domain.workload import Workload, World
from memplan.probe.record import entries
from memplan.smoke.device import Asked
from tests.oracle.libraries import library

torch = library("torch")
library("transformers")
library("peft")

from memplan.smoke import best, fake, is_declared, libraries, on_cpu, on_cuda  # noqa: E402
from memplan.smoke.declared.stand_ins import before, first_beyond, stand_ins  # noqa: E402
from memplan.smoke.gpu.device import CudaDevice  # noqa: E402
from tests.oracle.fake_cases import case  # noqa: E402
from tests.unit.smoke.fake_gpu import FakeGpu  # noqa: E402

A100, GTX = profiles.target("a100-80gb"), profiles.target("gtx1650")
MODEL = DeclaredModel(
    tensors=(
        DeclaredTensor(name="table", shape=("rows", 64), dtype=Dtype.FP16),
        DeclaredTensor(name="modules", fixed=Bytes(999_999), per=(("rows", Bytes(8138)),)),
        DeclaredTensor(name="table_grad", role=Role.GRADIENT, shape=("rows", 64)),
        DeclaredTensor(name="moments", role=Role.OPTIMIZER, shape=(2, "rows", 64)),
        DeclaredTensor(name="seen", role=Role.BUFFER, shape=(33,), dtype=Dtype.BOOL),
        DeclaredTensor(name="odd", role=Role.ACTIVATION, shape=(7, 3), fixed=Bytes(100)),
        DeclaredTensor(name="nothing", role=Role.BUFFER),
    ),
    values=(("rows", 1000),),
)
WHOLE = sum(MODEL.sizes().values())


def declared(model: DeclaredModel = MODEL) -> Workload:
    return Workload(model=model)


def amounts(found: Measurement) -> dict[str, int]:
    return dict(found.components)


def test_a_stand_in_has_the_declared_shape_element_type_role_and_bytes() -> None:
    made = {name: tensor for tensor, name, _, _ in stand_ins(MODEL)}
    assert list(made) == [tensor.name for tensor in MODEL.tensors if tensor.name != "nothing"]
    assert (tuple(made["table"].shape), made["table"].dtype) == ((1000, 64), torch.float16)
    assert isinstance(made["table"], torch.nn.Parameter)
    assert made["table"].requires_grad
    assert not made["modules"].requires_grad
    assert not isinstance(made["moments"], torch.nn.Parameter)
    assert made["seen"].dtype is torch.bool
    sizes = MODEL.sizes()
    assert {name: tensor.untyped_storage().nbytes() for name, tensor in made.items()} == {
        name: sizes[name] for name in made
    }


def test_on_the_processor_every_byte_is_as_predicted() -> None:
    found = on_cpu(declared(), Asked())
    assert (found.device, found.passed, found.shortage) == ("cpu", True, None)
    assert found.measured.peak_allocated == found.predicted.peak_allocated == WHOLE
    assert found.measured.phases == found.predicted.phases == ((Phase.LOAD, WHOLE),)
    sizes = {name: size for name, size in MODEL.sizes().items() if size}
    assert amounts(found.measured) == amounts(found.predicted) == sizes
    assert found.measured.rss is not None


def test_what_is_written_to_is_resident() -> None:
    large = DeclaredModel(tensors=(DeclaredTensor(name="all", fixed=Bytes(2**27)),), values=())
    found = on_cpu(declared(large), Asked())
    assert found.predicted.rss is not None
    assert found.measured.rss is not None
    baseline = found.predicted.rss - 2**27
    assert abs(found.measured.rss - baseline - 2**27) < 2**23


def test_a_budget_refuses_the_first_tensor_beyond_it_and_both_sides_say_so() -> None:
    sizes = MODEL.sizes()
    until = sizes["table"] + sizes["modules"]
    enough = on_cpu(declared(), Asked(budget=Bytes(WHOLE)))
    assert enough.passed
    short = on_cpu(declared(), Asked(budget=Bytes(until + sizes["table_grad"] - 1)))
    died = short.shortage
    assert died is not None
    assert (short.passed, short.foreseen) == (False, True)
    assert (died.phase, died.tensor, died.tried) == (Phase.LOAD, "table_grad", sizes["table_grad"])
    assert died.allocated == until == short.measured.peak_allocated == short.predicted.peak_allocated
    assert dict(died.alive) == dict(died.predicted) == {name: sizes[name] for name in ("table", "modules")}


def test_a_budget_for_nothing_at_all_is_a_shortage_too() -> None:
    short = on_cpu(declared(), Asked(budget=Bytes(1)))
    assert short.shortage is not None
    assert (short.shortage.allocated, short.measured.peak_allocated) == (0, 0)


def test_what_does_not_fit_the_machine_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Memory:
        available = WHOLE - 1

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    with pytest.raises(InputError, match=r"of host memory are free: 1 B are missing") as told:
        on_cpu(declared(), Asked())
    assert told.value.hint is not None
    assert "--device fake" in told.value.hint
    assert "--scaled" not in told.value.hint
    # Within a budget no more than that is taken.
    assert on_cpu(declared(), Asked(budget=Bytes(200_000))).shortage is not None


def test_without_bytes_any_size_is_as_predicted_in_the_allocators_blocks() -> None:
    huge = replace(MODEL, values=(("rows", 10**9),))
    found = fake(declared(huge), GTX)
    assert (found.device, found.passed) == ("fake", True)
    assert amounts(found.measured) == amounts(found.predicted)
    assert found.measured.peak_reserved == found.predicted.peak_reserved
    assert found.measured.peak_allocated == found.predicted.peak_allocated > 10**12


def ran(model: DeclaredModel, **asked: Any) -> Any:
    with FakeGpu(case("llama").workload, A100) as driver:
        return CudaDevice(driver).compare(declared(model), asked.pop("target", None), Asked(**asked))


def test_on_a_gpu_counters_and_components_are_those_predicted() -> None:
    found = ran(MODEL)
    assert found.passed
    assert (found.device, found.shortage) == ("cuda", None)
    assert found.measured.peak_allocated == found.predicted.peak_allocated
    assert found.measured.peak_reserved == found.predicted.peak_reserved
    assert amounts(found.measured) == amounts(found.predicted)
    assert not any("attention" in note for note in found.notes)
    assert [done for _, done in found.checks] == [True, True, False]


def test_on_a_gpu_that_stands_for_a_smaller_one_it_is_out_of_memory_as_that_one_is() -> None:
    large = replace(MODEL, values=(("rows", 500_000),))
    found = ran(large, target=GTX)
    assert (found.passed, found.foreseen) == (False, True)
    assert found.shortage is not None
    assert found.shortage.phase is Phase.LOAD
    assert dict(found.shortage.alive) == dict(found.shortage.predicted)
    assert found.checks == ()


def test_layers_cannot_be_left_out_of_what_has_none() -> None:
    with pytest.raises(InputError, match="no layers to leave out"):
        on_cpu(declared(), Asked(), scaled=True)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8), st.integers(0, 4 * 10**6))
@settings(deadline=None)
def test_the_first_tensor_beyond_a_budget_is_the_first_that_does_not_fit(sizes: list[int], room: int) -> None:
    tensors = tuple(DeclaredTensor(name=f"t{index}", fixed=Bytes(size)) for index, size in enumerate(sizes))
    model = DeclaredModel(tensors=tensors, values=())
    name = first_beyond(model, room)
    kept = before(model, name)
    held = sum(kept.sizes().values())
    assert held <= room
    assert (name is None) == (sum(sizes) <= room)
    if name is not None:
        assert held + model.sizes()[name] > room
    assert first_beyond(model, None) is None


@pytest.mark.parametrize("gpu", [False, True])
def test_without_a_device_the_gpu_is_taken_or_what_suits_the_model(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "version", lambda _: "2.13.0")
    monkeypatch.setattr(probe, "devices", lambda: [object()] if gpu else [])
    known = case("llama").workload
    assert best(known) == ("cuda" if gpu else "fake")
    assert best(declared()) == ("cuda" if gpu else "cpu")
    assert best(replace(known, world=World(data_parallel=2))) == "cpu"
    mechanism = declared(replace(MODEL, mechanism="episodic"))
    assert best(mechanism) == "cpu"
    assert not is_declared(mechanism)


@pytest.mark.parametrize("run", [fake, partial(on_cuda, target=None, asked=Asked())])
def test_a_mechanism_runs_on_the_processor_and_nowhere_else(run: Callable[[Workload], object]) -> None:
    with pytest.raises(InputError, match="the mechanism episodic is run on the processor only") as told:
        run(declared(replace(MODEL, mechanism="episodic")))
    assert told.value.hint == "use --device cpu"


MANIFEST = """\
memplan: 1
model:
  tensors:
    table: {shape: [rows, 64], dtype: fp32}
    state: {bytes: 1MB, role: buffer}
  values: {rows: 5000}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    path = tmp_path / "memplan.yaml"
    path.write_text(MANIFEST, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("device", ["cpu", "fake"])
def test_the_command_prints_the_same_keys_as_for_a_model(
    device: str, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", manifest, "--device", device, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["device"], found["passed"]) == ("memplan.smoke/1", device, True)
    assert set(found["predicted"]) == set(found["measured"]) == set(found["error"])
    assert found["measured"]["components"]["table"] == 5000 * 64 * 4
    assert found["measured"]["phases"].keys() == {"load"}


def test_a_card_that_is_too_small_is_an_answer(
    manifest: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "devices", list)
    arguments = ["smoke", manifest, "--gpu", "gtx1650", "--set", "rows=20000000"]
    assert main(arguments) == 1
    assert "out of memory in load: 4.77 GiB asked for table" in capsys.readouterr().out
    assert main(["smoke", manifest, "--cap", "1200KiB"]) == 1
    assert "1.22 MiB asked for table, with 0 B of 1.17 MiB in use" in capsys.readouterr().out


def test_tensors_alone_are_recorded_with_what_was_resident_before_them(manifest: str, tmp_path: Path) -> None:
    record = tmp_path / "record.yaml"
    assert main(["smoke", manifest, "--device", "cpu", "--record", str(record)]) == 0
    (found,) = entries(record)
    assert found.words["workload"].endswith(" bytes declared")
    assert found.words["attention"] == "none"
    before, allocated = found.measured["overhead"], found.measured["allocated"]
    assert before is not None
    assert allocated is not None
    assert found.predicted["resident"] == before + allocated
    assert main(["smoke", manifest, "--device", "cpu", "--cap", "1200KiB", "--record", str(record)]) == 1
    assert len(entries(record)) == 1


def test_a_run_says_what_it_verified_and_what_it_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sizes.cu").write_text("config.rows = 5000;\n", encoding="utf-8")
    path = tmp_path / "memplan.yaml"
    path.write_text(
        MANIFEST.replace("{rows: 5000}", "{rows: {file: sizes.cu, key: config.rows}}"), encoding="utf-8"
    )
    assert main(["smoke", str(path), "--device", "cpu", "--cap", "3MiB"]) == 0
    said = capsys.readouterr().out
    assert "[x] they are within the 3.00 MiB that may be allocated" in said
    assert "[ ] what the model does with them was not run" in said
    assert f"[ ] rebuild, if not done since they changed: {tmp_path / 'sizes.cu'}" in said
    assert main(["smoke", str(path), "--device", "fake", "--format", "json"]) == 0
    assert [check["done"] for check in json.loads(capsys.readouterr().out)["checks"]] == [True, False, False]
    assert main(["smoke", str(path), "--device", "cpu", "--cap", "2MiB"]) == 1
    assert "Verified" not in capsys.readouterr().out
