"""A user's own model: what it takes, and what becomes of errors, limits and endless loops in it."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan.cli import main
from memplan.domain.errors import FieldError
from memplan.domain.own_model import DTYPES, Shape

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'memplan[smoke]'"
)

slow = partial(pytest.param, marks=pytest.mark.slow)

MODEL = """\
import os, sys, time
import torch
from beside import WIDTH


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(64, WIDTH)
        self.outer = torch.nn.Linear(WIDTH, 10)
        self.register_buffer("scale", torch.ones(5))

    def forward(self, x):
        return {"logits": self.outer(torch.relu(self.inner(x)))}


def build():
    print("building")
    return Net()


def slow():
    time.sleep(600)


def large():
    return [torch.ones(2**28) for _ in range(64)]


def quits():
    sys.exit("no licence")


def dies():
    os.kill(os.getpid(), 9)


def number():
    return 7
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "code" / "net.py"
    path.parent.mkdir()
    path.write_text(MODEL, encoding="utf-8")
    path.with_name("beside.py").write_text("WIDTH = 256\n", encoding="utf-8")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return path


@needs_torch
@pytest.mark.parametrize("device", ["fake", "cpu"])
def test_it_says_what_stays_what_is_saved_and_the_peak_of_each_phase(
    device: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", f"{file}:build", "--shape", "x=8x64", "--device", device, "--format", "json"]
    assert main(["smoke", *arguments]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    parameters = (64 * 256 + 256 + 256 * 10 + 10) * 4
    hidden, given, logits = 8 * 256 * 4, 8 * 64 * 4, 8 * 10 * 4
    assert found["schema"] == "memplan.model/1"
    assert (found["count"], found["parameters"], found["gradients"]) == (parameters // 4, *[parameters] * 2)
    assert found["buffers"] == 20
    # Of the two, relu keeps its result, which is also the second layer's input.
    assert found["saved"] == hidden
    assert found["phases"]["load"] == parameters + 20
    assert found["phases"]["forward"] == parameters + 20 + given + max(2 * hidden, hidden + logits)
    assert found["peak_allocated"] == found["phases"]["backward"] > 2 * parameters
    assert list((file.parents[1] / "temporary").iterdir()) == []


@needs_torch
@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("build", ("--shape", "8x65"), "net.py:14:49: RuntimeError: a and b must have same reduction dim"),
        ("large", ("--device", "cpu", "--cap", "2GiB"), "net.py:27:13: the model takes more than 2.00 GiB"),
        slow("slow", ("--patience", "2"), "net.py:slow was not done within 2 s"),
        slow("quits", (), "net.py:31:5: SystemExit: no licence"),
        slow("dies", (), "its process was killed by SIGKILL"),
        slow("number", (), "number gives int, which is no torch.nn.Module"),
        slow("buidl", (), "it has nothing called 'buidl'"),
    ],
)
def test_what_goes_wrong_in_it_is_an_error_at_its_own_line(
    name: str, options: tuple[str, ...], said: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = psutil.Process().children(recursive=True)
    assert main(["smoke", "--model", f"{file}:{name}", *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert psutil.Process().children(recursive=True) == before
    assert list((file.parents[1] / "temporary").iterdir()) == []


@needs_torch
def test_a_file_that_is_no_python_is_pointed_at(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("import torch\ndef build(:\n", encoding="utf-8")
    assert main(["smoke", "--model", f"{file}:build"]) == 2
    assert "net.py:2:11: SyntaxError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a config, or a model of your own"),
        (("--model", "absent.py:build"), "absent.py is no file"),
        (("--model", "absent.py:build", "--device", "cuda"), "does not run on --device cuda"),
        (("--model", "absent.py:build", "--shape", "1x0"), "is no shape"),
        (("--model", "absent.py:build", "--gpus", "2"), "go --shape, --device, --cap and --patience only"),
        (("run.yaml", "--shape", "1x2"), "--shape and --patience are for --model FILE.py:NAME"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_without_a_request_no_code_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n", encoding="utf-8")
    config = tmp_path / "run.yaml"
    config.write_text(f"memplan: 1\nmodel: {{path: {trap}:build}}\n", encoding="utf-8")
    assert main(["smoke", str(config)]) == 2
    assert main(["smoke", str(config), "--model", f"{trap}:build"]) == 2
    capsys.readouterr()
    assert not (tmp_path / "sprung").exists()


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=5), st.sampled_from(DTYPES))
def test_shapes_are_read_as_they_are_written(sides: list[int], dtype: str) -> None:
    text = "x".join(map(str, sides))
    named = Shape.parse(f"ids={text}:{dtype}")
    assert (named.name, named.sides, named.dtype) == ("ids", tuple(sides), dtype)
    assert Shape.parse(text) == Shape(name="", sides=tuple(sides))


@given(st.text(max_size=12))
def test_other_text_is_a_shape_or_an_error_that_says_so(text: str) -> None:
    try:
        found = Shape.parse(text)
    except FieldError as error:
        assert "--shape" in error.message
    else:
        assert all(side > 0 for side in found.sides)
