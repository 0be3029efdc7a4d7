"""What a user's model allocates: how often, how much, and what it makes anew for every element of an input.

A result counts as made anew when the same call in the user's files, in one and the same module, made it as
many times as an input has elements along a side (or one time fewer), and let it go again: one buffer would
have held it. What backward or a list keeps does not count, since every one of them is needed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from memplan.domain.bytes import Bytes
from memplan.domain.finding import Finding, Level
from memplan.domain.own_model import Allocations, Shape
from memplan.domain.trace import Phase

CODE = "MP011"

FEWEST = 4
"""Elements a side must have: that something is done twice or three times says nothing."""

_RUNNER = str(Path(__file__).with_name("run.py"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _What:
    """What is made: in which line, by which chain of calls, in which module; the op, and the bytes."""

    path: str
    line: int
    calls: tuple[tuple[int, int], ...]
    module: int
    op: str
    size: int


@dataclass(slots=True)
class _Made:
    """How often, in how many calls of its module, how many at once; whether autograd takes note of it."""

    times: int = 0
    visits: int = 0
    visit: int = -1
    alive: int = 0
    most: int = 0
    recorded: bool = False

    @property
    def rounds(self) -> int:
        """Rounds of the loop it is made in: calls of its module, or within the only one."""
        return self.visits if self.visits > 1 else self.times


@dataclass(slots=True)
class Making:
    """Allocations as they happen; ``folder`` is where the user's files are."""

    folder: Path
    phase: Phase = Phase.LOAD
    _counts: Counter[Phase] = field(default_factory=Counter)
    _bytes: Counter[Phase] = field(default_factory=Counter)
    _visits: int = 0
    _modules: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])
    _made: dict[_What, _Made] = field(default_factory=dict)

    @contextmanager
    def watching_modules(self) -> Iterator[None]:
        """Tell modules apart that run the same code, until the block ends."""
        entered = register_module_forward_pre_hook(self._enter)
        left = register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            entered.remove()
            left.remove()

    def allocated(self, func: Any, args: Iterable[Any], size: int) -> _Made | None:
        """An op has made a storage; what is returned is for ``freed``."""
        self._counts[self.phase] += 1
        self._bytes[self.phase] += size
        what = self._what(func, size) if self.phase is Phase.FORWARD and size else None
        if what is None:
            return None
        made = self._made.setdefault(what, _Made())
        visit = self._modules[-1][1]
        made.visits += made.visit != visit
        made.visit = visit
        made.times += 1
        made.alive += 1
        made.most = max(made.most, made.alive)
        made.recorded |= torch.is_grad_enabled() and any(
            isinstance(item, torch.Tensor) and item.requires_grad for item in args
        )
        return made

    @staticmethod
    def freed(made: _Made | None) -> None:
        """Its storage is gone."""
        if made is not None:
            made.alive -= 1

    def allocations(self) -> tuple[Allocations, ...]:
        """How many in each phase, and how large together."""
        return tuple(
            Allocations(phase=phase, count=count, bytes=Bytes(self._bytes[phase]))
            for phase, count in self._counts.items()
        )

    def findings(self, shapes: tuple[Shape, ...]) -> tuple[Finding, ...]:
        """MP011 for each line that makes anew what one buffer would hold, most bytes first."""
        loops = _loops(shapes)
        found = [
            (what, made)
            for what, made in self._made.items()
            if made.rounds in loops and made.times % made.rounds == 0 and 2 * made.most <= made.times
        ]
        found.sort(key=_line)
        told = [_told(list(items), loops) for _, items in groupby(found, key=_line)]
        return tuple(finding for _, finding in sorted(told, key=lambda item: -item[0]))

    def _enter(self, module: torch.nn.Module, _: Any) -> None:
        self._visits += 1
        self._modules.append((id(module), self._visits))

    def _leave(self, *_: Any) -> None:
        self._modules.pop()

    def _what(self, func: Any, size: int) -> _What | None:
        """What is being made; None if no line of the user's runs."""
        place, calls = None, []
        frame = sys._getframe(3)
        while frame.f_code.co_filename != _RUNNER and frame.f_back is not None:
            if place is None and _is_in(frame.f_code.co_filename, self.folder):
                place = frame.f_code.co_filename, frame.f_lineno
            calls.append((id(frame.f_code), frame.f_lasti))
            frame = frame.f_back
        if place is None:
            return None
        path, line = place
        module = self._modules[-1][0]
        return _What(path=path, line=line, calls=tuple(calls), module=module, op=func._opname, size=size)


def _loops(shapes: tuple[Shape, ...]) -> dict[int, str]:
    """Rounds that a loop over a side of an input has, and what is said of it; whole sides come first."""
    sides = [
        (side, f"side {index + 1} of {shape.name or 'the input'}")
        for shape in shapes
        for index, side in enumerate(shape.sides)
        if side >= FEWEST
    ]
    shorter = {side - 1: f"once for each of {name} but one" for side, name in sides}
    return shorter | {side: f"once for each of {name}" for side, name in reversed(sides)}


def _line(item: tuple[_What, _Made]) -> tuple[str, int, int]:
    what, made = item
    return what.path, what.line, made.rounds


@cache
def _is_in(file: str, folder: Path) -> bool:
    """Whether a file is the user's own: below their folder, and in no library installed there."""
    path = Path(file)
    return path.is_relative_to(folder) and not {"site-packages", "dist-packages"} & set(path.parts)


def _told(found: list[tuple[_What, _Made]], loops: dict[int, str]) -> tuple[int, Finding]:
    """What one line makes anew, and the bytes of it."""
    first, rounds = found[0][0], found[0][1].rounds
    total = sum(what.size * made.times for what, made in found)
    count = sum(made.times for _, made in found) // rounds
    ops = ", ".join(dict.fromkeys(what.op for what, _ in found))
    recorded = any(made.recorded for _, made in found)
    results = "a result" if count == 1 else f"{count} results"
    finding = Finding(
        path=first.path,
        line=first.line,
        code=CODE,
        level=Level.NOTE if recorded else Level.WARNING,
        message=f"{results} ({ops}) made anew {rounds} times, {loops[rounds]}: {Bytes(total).rounded()} in "
        f"all, where {Bytes(total // rounds).rounded()} would do",
        fix=("where no gradient is taken, " if recorded else "")
        + "write into a buffer made once (out=), or compute all of them at once",
    )
    return total, finding
