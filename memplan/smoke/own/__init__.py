"""A user's own model, traced in a process of its own with limits on time and memory.

It runs the user's code, so it is done when somebody asks for exactly that, and never because of a config.
"""

from __future__ import annotations

import linecache
import pickle
import signal
import tempfile
from dataclasses import replace
from pathlib import Path

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FileAccessError, InputError, Location
from memplan.domain.finding import Finding
from memplan.domain.own_model import OwnModel, Shape
from memplan.smoke.child import Child, interruptible
from memplan.smoke.libraries import HINT, installed
from memplan.smoke.own.request import Complaint, Request

__all__ = ["PATIENCE", "trace"]

PATIENCE = 120.0
"""Seconds after which a model that is not done is ended."""


def trace(
    file: Path,
    name: str,
    shapes: tuple[Shape, ...],
    *,
    fake: bool = True,
    memory: Bytes | None = None,
    patience: float = PATIENCE,
) -> OwnModel:
    """Build the model that ``name`` of a Python file gives, and run it forward and backward once.

    Args:
        file: the Python file.
        name: a function or class without arguments, or a module.
        shapes: the inputs.
        fake: on tensors without bytes.
        memory: what the process may take. Default: what is free.
        patience: seconds it may take.

    Raises:
        FileAccessError: there is no such file.
        InputError: torch is not installed, or the user's code failed or went beyond a limit.
    """
    if not file.is_file():
        raise FileAccessError(f"{file} is no file", expected="a Python file with the model, as FILE.py:NAME")
    if installed("torch") is None:
        raise InputError("a smoke test needs torch", hint=HINT)
    import psutil

    limit = Bytes(psutil.virtual_memory().available) if memory is None else memory
    request = Request(file=file.resolve(), name=name, shapes=shapes, memory=limit, fake=fake)
    with interruptible(), tempfile.TemporaryDirectory(prefix="memplan-") as path:
        folder = Path(path)
        (folder / "request").write_bytes(pickle.dumps(request))
        child = Child("memplan.smoke.own.worker", [path], folder / "log", {"TMPDIR": path})
        try:
            code = child.wait(patience)
        finally:
            child.kill()
        answer = _answer(folder)
        if isinstance(answer, OwnModel):
            return replace(answer, findings=tuple(_named(finding, file) for finding in answer.findings))
        if isinstance(answer, Complaint):
            raise _of_user(answer, file, limit)
        raise _unanswered(code, child, file, name, patience)


def _named(finding: Finding, file: Path) -> Finding:
    """A finding whose file is named as the user named theirs."""
    return replace(finding, path=str(file.parent / Path(finding.path).relative_to(file.parent.resolve())))


def _answer(folder: Path) -> object:
    try:
        return pickle.loads((folder / "answer").read_bytes())
    except FileNotFoundError:
        return None


def _of_user(complaint: Complaint, file: Path, limit: Bytes) -> InputError:
    """The user's error at the user's line."""
    said = ": ".join(part for part in (complaint.kind, complaint.message) if part)
    if complaint.memory:
        said = f"the model takes more than {limit.rounded()} of memory ({said})"
    if not complaint.line:
        return InputError(f"{file}: {said}")
    text = linecache.getline(complaint.path, complaint.line).rstrip("\n")
    place = Location(path=complaint.path, line=complaint.line, column=complaint.column, text=text)
    return InputError(said, location=place)


def _unanswered(code: int | None, child: Child, file: Path, name: str, patience: float) -> InputError:
    who = f"{file}:{name}"
    if code is None:
        return InputError(f"{who} was not done within {patience:g} s", hint="give it longer: --patience")
    if code < 0:
        known = {item.value: item.name for item in signal.Signals}
        return InputError(f"{who}: its process was killed by {known.get(-code, f'signal {-code}')}")
    said = child.last_words()
    return InputError(f"{who}: its process ended with exit code {code}" + (f": {said}" if said else ""))
