"""What the mechanisms of ``memplan.mechanisms`` allocate, without torch: one program each, listed here.

A program has a name, its settings, and ``run``, which does to a simulated process what the mechanism does to
a real one. ``options`` are what can be changed about it to save memory.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from memplan.domain.churn import Churn, Renewal
from memplan.domain.errors import UnknownNameError
from memplan.domain.estimate import Component
from memplan.domain.plan import Option
from memplan.domain.setting import Setting, Settings
from memplan.programs import buffers, episodic_memory, equilibrium_propagation, large_context
from memplan.simulator.tensor import Tape


class Program(Protocol):
    """What a module of this folder offers; ``settings`` are always complete and each within its range."""

    NAME: str
    SUMMARY: str
    SETTINGS: tuple[Setting, ...]

    def problem(self, settings: Settings, /) -> tuple[str, str] | None:
        """A setting that makes no sense beside the others, and why; None when all do."""

    def run(self, settings: Settings, tape: Tape, /) -> object:
        """Allocate and free what a run does; what is returned stays until its end.

        The tape enters phases itself, LOAD first. Of the capability ``kernels.HOST`` it stands for a CPU.
        """

    def disk(self, settings: Settings, /) -> tuple[Component, ...]:
        """Files the run keeps on disk at most."""

    def mapped(self, settings: Settings, /) -> int:
        """Bytes of these files that it maps: page cache, which the kernel can take back."""

    def options(self, settings: Settings, /) -> tuple[tuple[Option, ...], ...]:
        """What can be changed: for each thing that can, its settings from the fastest to the leanest."""

    def work(self, settings: Settings, /) -> float:
        """How long a run takes relative to the same program with other settings, in any unit."""


@runtime_checkable
class Counted(Program, Protocol):
    """A program whose every allocation is foretold, and not only what there is at once."""

    def churn(self, settings: Settings, /) -> Churn:
        """The allocations of one round, loading not among them."""

    def renewal(self, settings: Settings, /) -> Renewal | None:
        """What is made anew again and again although one buffer would hold it; None if nothing is."""


PROGRAMS: tuple[Program, ...] = (buffers, episodic_memory, equilibrium_propagation, large_context)
"""Every program there is."""


def names() -> tuple[str, ...]:
    """The names that ``model.mechanism`` may have."""
    return tuple(program.NAME for program in PROGRAMS)


def find(name: str) -> Program:
    """The program of a name.

    Raises:
        UnknownNameError: there is none.
    """
    for program in PROGRAMS:
        if name == program.NAME:
            return program
    raise UnknownNameError.nearest("mechanism", name, list(names()))


def counted(name: str | None) -> Counted | None:
    """The program of a name if its every allocation is foretold; None for a model without a mechanism too."""
    program = None if name is None else find(name)
    return program if isinstance(program, Counted) else None


def renewal(name: str | None, settings: Settings) -> Renewal | None:
    """What a mechanism of a name makes anew with these settings; None if nothing, or if nobody can tell."""
    program = counted(name)
    return None if program is None else program.renewal(settings)
