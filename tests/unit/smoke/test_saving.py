"""``memplan smoke --save``: the files of a checkpoint beside their prediction, and nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import smoke_matrix
from memplan import profiles
from memplan.cli import main
from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FileAccessError, InputError
from memplan.domain.host import Saving
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.workload import Adapter, Batch, Optimizer, Sequence, Task, Workload
from memplan.smoke.device import Asked
from tests.oracle.libraries import library

torch = library("torch")
library("transformers")
library("peft")

from memplan.smoke import on_cpu  # noqa: E402
from memplan.smoke.gpu.device import CudaDevice  # noqa: E402
from memplan.smoke.saving import Saver, predicted  # noqa: E402
from memplan.smoke.scaled import shallower  # noqa: E402
from tests.oracle.fake_cases import case  # noqa: E402
from tests.unit.smoke.fake_gpu import FakeGpu  # noqa: E402

SMALL: dict[str, Any] = {"batch": Batch(micro=1), "sequence": Sequence(length=32)}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3, tied": ("qwen3", {}),
    "gpt2, fused": ("gpt2", {"optimizer": Optimizer(name="adamw", implementation="fused")}),
    "llama, adapters": ("llama", {"adapter": Adapter(rank=4)}),
    "llama, sgd": ("llama", {"optimizer": Optimizer(name="sgd", momentum=0.9)}),
    "bert, weights alone": ("bert", {"saving": Saving(optimizer=False)}),
}


def workload(model: str = "llama", **settings: Any) -> Workload:
    return shallower(smoke_matrix.workload(model, **{**SMALL, **settings}), 1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


def nothing(amount: int = 0) -> Measurement:
    return Measurement(peak_allocated=Bytes(amount), peak_reserved=None, phases=(), components=())


def compared() -> Comparison:
    return Comparison(device="cpu", predicted=nothing(), measured=nothing())


@pytest.mark.parametrize("name", CASES)
def test_files_are_as_large_as_predicted_and_gone(name: str, folder: Path) -> None:
    model, settings = CASES[name]
    saver = Saver(workload(model, **settings))
    found = saver.beside(on_cpu(saver.workload, Asked(steps=1, done=saver)))
    before, after = dict(found.predicted.disk), dict(found.measured.disk)
    assert list(after) == ["weights", "optimizer"][: 1 + saver.workload.saving.optimizer]
    # Names stand in the file's header: where a class has other names than most, it is longer or shorter.
    slack = 0 if model in ("qwen3", "llama") else 100
    assert abs(before["weights"] - after["weights"]) <= slack
    assert all(abs(before[kind] - size) <= 0.005 * size + 512 for kind, size in after.items())
    assert found.passed
    assert list(folder.iterdir()) == []


def test_a_file_that_is_larger_than_predicted_fails() -> None:
    saver = Saver(workload())
    saver.seen = tuple((name, Bytes(2 * size)) for name, size in saver.expected)
    assert not saver.beside(compared()).passed
    saver.seen = saver.expected
    assert saver.beside(compared()).passed


def test_a_run_that_died_has_saved_nothing_worth_comparing() -> None:
    saver = Saver(workload())
    assert saver.beside(compared()) == compared()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": DeclaredModel()}, "declared"),
        ({"task": Task.GENERATE}, "task is generate"),
        ({"saving": Saving(kept=0)}, r"saving.kept is 0"),
    ],
    ids=str,
)
def test_where_there_is_nothing_to_save_it_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Saver(replace(workload(), **changes))


def test_without_room_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = sum(size for _, size in predicted(workload()))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    Saver(workload())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    with pytest.raises(InputError, match="1 B are missing") as told:
        Saver(workload())
    assert told.value.hint is not None
    assert "TMPDIR" in told.value.hint


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writes beyond it fail, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


class Plain(torch.nn.Module):  # type: ignore[misc,name-defined]
    """A model that saves itself as transformers' do, in a file of safetensors."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(numbers))

    def save_pretrained(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file({"weight": self.weight.data}, folder / "model.safetensors")


def loop(numbers: int) -> SimpleNamespace:
    model = Plain(numbers)
    model.weight.grad = torch.zeros(numbers)
    optimizer = torch.optim.AdamW(model.parameters())
    optimizer.step()
    return SimpleNamespace(model=model, optimizer=optimizer)


@pytest.mark.parametrize("numbers", [2**14, 2**17], ids=["the optimizer", "the weights"])
def test_a_disk_that_takes_no_more_is_an_error_in_words_and_leaves_nothing(
    numbers: int, folder: Path
) -> None:
    saver = Saver(workload())
    with files_of_at_most(2**17), pytest.raises(FileAccessError, match="cannot be written to") as told:
        saver(loop(numbers))
    assert told.value.hint is not None
    assert list(folder.iterdir()) == []
    assert saver.beside(compared()) == compared()


def killed(number: int, *_: object) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "ending"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)], ids=str
)
def test_a_run_that_is_broken_off_while_it_saves_leaves_nothing(
    number: int, ending: type[BaseException], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "save", partial(killed, number))
    with pytest.raises(ending):
        Saver(workload())(loop(16))
    assert list(folder.iterdir()) == []


def test_on_a_gpu_the_loop_is_handed_over_when_it_is_through() -> None:
    known = case("llama").workload
    seen: list[Any] = []
    with FakeGpu(known, profiles.target("a100-80gb")) as driver:
        found = CudaDevice(driver).compare(known, None, Asked(steps=2, done=seen.append))
    assert found.passed
    assert [len(run.optimizer.state) for run in seen] == [len(seen[0].trained)]


CONFIG = """\
memplan: 1
model:
  config: {model_type: llama, hidden_size: 64, intermediate_size: 160, num_hidden_layers: 1,
           num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 500}
precision: {params: fp32}
sequence: {length: 32}
"""


def test_files_stand_under_the_same_key_on_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    arguments = ["smoke", str(path), "--device", "cpu", "--steps", "1", "--save", "--no-record"]
    assert main([*arguments, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["predicted"]["disk"].keys() == found["measured"]["disk"].keys() == {"weights", "optimizer"}
    assert found["error"]["disk"]["weights"] == 0.0
    for device, more in (("fake", []), ("cpu", ["--cap", "1GiB"]), ("cpu", ["--gpus", "2"])):
        assert main(["smoke", str(path), "--device", device, "--save", *more]) == 2
        assert "--save is for whole runs" in capsys.readouterr().err
