from __future__ import annotations

import io
import sys

import pytest

from memplan.cli import progress


class Screen(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar from the first piece on, on a terminal that can show it."""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool = True, breaks: bool = False) -> str:
    """What standard error gets of three pieces of work."""
    screen = Screen(terminal=terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    with progress.progress("planning", 3) as advance:
        for _ in range(3):
            advance()
            if breaks:
                raise KeyboardInterrupt
    return screen.getvalue()


def test_a_person_at_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "planning" in shown(monkeypatch)


def test_what_is_quick_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 3600.0)
    assert shown(monkeypatch) == ""


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
def test_whoever_wants_plain_text_sees_no_bar(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "dumb")
    assert shown(monkeypatch) == ""


def test_a_pipe_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, terminal=False) == ""


def test_work_that_breaks_off_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        shown(monkeypatch, breaks=True)
    assert isinstance(sys.stderr, Screen)
    assert "\x1b[?25h" in sys.stderr.getvalue()
