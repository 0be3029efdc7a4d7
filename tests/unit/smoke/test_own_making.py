"""What a user's own model makes anew in a loop over an input, and what it does not."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memplan.cli import main
from memplan.domain.finding import Level
from memplan.domain.own_model import OwnModel, Shape
from memplan.domain.trace import Phase

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install 'memplan[smoke]'"
)

MODEL = """\
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(50, 8)
        self.cell = torch.nn.GRUCell(8, 16)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(12))
        self.weight = torch.nn.Parameter(torch.zeros(16, 16))


class Tokens(Net):
    @torch.no_grad()
    def forward(self, ids):
        state = torch.zeros(ids.shape[0], 16)
        for index in range(ids.shape[1]):
            state = torch.tanh(self.cell(self.embed(ids[:, index]), state))
        return state


class Functional(Net):
    @torch.no_grad()
    def forward(self, ids):
        state = torch.zeros(ids.shape[0], 16)
        for _ in range(1, ids.shape[1]):
            state = torch.tanh(state @ self.weight + state @ self.weight)
        return state


class Buffered(Net):
    @torch.no_grad()
    def forward(self, ids):
        state, total = torch.zeros(ids.shape[0], 16), torch.zeros(ids.shape[0], 16)
        for _ in range(ids.shape[1]):
            torch.mm(state, self.weight, out=total)
            torch.tanh(total, out=state)
        return state


class Layers(Net):
    @torch.no_grad()
    def forward(self, ids):
        state = torch.zeros(ids.shape[0], 16)
        for layer in self.layers:
            state = layer(state)
        return state


class Kept(Net):
    @torch.no_grad()
    def forward(self, ids):
        state = torch.zeros(ids.shape[0], 16)
        return torch.stack([state @ self.weight for _ in range(ids.shape[1])])


class Trained(Net):
    def forward(self, ids):
        state = torch.zeros(ids.shape[0], 16)
        for _ in range(ids.shape[1]):
            state = state @ self.weight + self.weight[0]
        return state
"""

ROW = 2 * 16 * 4
"""Bytes of a state of two sequences."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(MODEL, encoding="utf-8")
    return path


@pytest.fixture
def traced(file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], OwnModel]:
    from memplan.smoke.own.run import run

    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "net", sys)  # Whatever is there then goes in the end.
    return lambda name: run(file, name, (Shape.parse("ids=2x12:int64"),), fake=True)


def test_a_loop_over_tokens_is_pointed_at(file: Path, traced: Callable[[str], OwnModel]) -> None:
    (finding,) = traced("Tokens").findings
    assert (finding.path, finding.line) == (str(file), MODEL.split("\n").index(_TANH) + 1)
    assert (finding.code, finding.level) == ("MP011", Level.WARNING)
    assert "made anew 12 times, once for each of side 2 of ids" in finding.message
    assert "write into a buffer made once (out=)" in str(finding.fix)


_TANH = "            state = torch.tanh(self.cell(self.embed(ids[:, index]), state))"


def test_two_products_of_one_line_are_two_results(traced: Callable[[str], OwnModel]) -> None:
    found = traced("Functional")
    (finding,) = found.findings
    assert finding.message == (
        "4 results (mm, add, tanh) made anew 11 times, once for each of side 2 of ids but one: "
        f"{4 * 11 * ROW / 1024:.2f} KiB in all, where {4 * ROW} B would do"
    )
    # The ids, the first state, and four results a round.
    forward = next(item for item in found.allocations if item.phase is Phase.FORWARD)
    assert (forward.count, forward.bytes) == (2 + 44, 2 * 12 * 8 + 45 * ROW)


@pytest.mark.parametrize("name", ["Buffered", "Layers", "Kept"])
def test_what_is_written_into_made_by_other_layers_or_kept_is_not(
    name: str, traced: Callable[[str], OwnModel]
) -> None:
    assert traced(name).findings == ()


def test_where_gradients_are_wanted_it_is_a_note(traced: Callable[[str], OwnModel]) -> None:
    findings = traced("Trained").findings
    assert {finding.level for finding in findings} == {Level.NOTE}
    assert all(str(finding.fix).startswith("where no gradient is taken") for finding in findings)


def test_the_report_names_the_file_as_it_was_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    assert main(["smoke", "--model", "net.py:Functional", "--shape", "ids=2x12:int64"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "phase peak allocations in all" in said
    assert " net.py:27: warning MP011: 4 results (mm, add, tanh) made anew 11 times" in said
