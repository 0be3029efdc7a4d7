"""Draws what comparing queries with an episodic memory takes, in both forms, predicted and measured.

``python -m docs.figures.episodic_memory`` writes the picture beside this file. Predictions are those of the
program ``episodic_memory``, measurements the profiler's allocation events of the library on the CPU, as many
queries at once as a small machine holds. 5,000 slots of width 768 are those of ``examples/episodic-memory``,
and 8,192 queries its batch of eight sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from memplan import profiles
from memplan.domain.architecture import DeclaredModel
from memplan.domain.setting import Scalar
from memplan.domain.trace import Phase, Trace
from memplan.estimate.mechanism import trace_of
from memplan.programs import episodic_memory
from memplan.reporters.pictures import svg
from memplan.reporters.pictures.curves import Curve, Figure, Mark, draw
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import replay
from memplan.smoke.cpu.events import Events
from memplan.smoke.systems.episodic_memory import start

FILE = Path(__file__).with_name("episodic-memory.svg")
SLOTS, WIDTH = 5000, 768
QUERIES = tuple(2**power for power in range(14))
HELD = {"broadcast": 64, "matmul": 8192}
"""The most queries that are compared for real."""

CARDS = ("gtx1650", "rtx3090")


def settings(form: str, queries: int) -> dict[str, Scalar]:
    """A round of so many queries, all at once."""
    defaults = {item.name: item.default for item in episodic_memory.SETTINGS if item.default is not None}
    sizes = {"memory_size": SLOTS, "key_size": WIDTH, "batch": 1, "sequence": queries}
    return {**defaults, **sizes, "similarity": form, "read_chunk": 0, "write_chunk": 0, "device": "cpu"}


def predicted(form: str, queries: int) -> int:
    """Bytes at the peak of a round, as the program says."""
    values = tuple(settings(form, queries).items())
    return peak(trace_of(DeclaredModel(mechanism=episodic_memory.NAME, values=values), HOST))


def measured(form: str, queries: int) -> int:
    """Bytes at the peak of a round, as the profiler says."""
    running = start(settings(form, queries))
    events = Events()
    with events.watching(running.tensors()) as found:
        running.step(events)
    return peak(found[0])


def peak(trace: Trace) -> int:
    """The most bytes allocated after loading."""
    return int(replay(trace, exact=True).phases[Phase.FORWARD].allocated)


def curves() -> Iterator[Curve]:
    """A line for each form, and dots where it was run."""
    for form, most in HELD.items():
        line = tuple((queries, predicted(form, queries)) for queries in QUERIES)
        dots = tuple((queries, measured(form, queries)) for queries in QUERIES if queries <= most)
        for (queries, said), (_, seen) in zip(line, dots, strict=False):
            print(f"{form:>10} {queries:>6,} queries  {said:>15,} {seen:>15,} {said - seen:>+8,}")
        yield Curve(name=f"{form}, predicted", points=line)
        yield Curve(name="measured", points=dots, measured=True, like=f"{form}, predicted")


def main() -> None:
    """Run, compare and draw."""
    torch.manual_seed(0)
    figure = Figure(
        title="Episodic memory: a round by queries compared at once",
        about=f"{SLOTS:,} slots of width {WIDTH}, fp32: bank, queries, answers and what comparing takes",
        across="queries at once",
        curves=tuple(curves()),
        marks=tuple(Mark(name=name, bytes=int(profiles.target(name).limit)) for name in CARDS),
    )
    FILE.write_text(svg.render(draw(figure)), encoding="utf-8")


if __name__ == "__main__":
    main()
