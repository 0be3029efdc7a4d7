"""Draws what NeuroGen keeps on the GPU over the width of Broca, predicted and made for real, and the card.

``python -m docs.figures.neurogen`` writes the picture beside this file. Predictions are those of
``examples/neurogen``, measurements the profiler's allocation events of tensors as declared, on the CPU, as
far as a GTX 1650 would have allocated them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from memplan import profiles
from memplan.domain.bytes import Bytes
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from memplan.read import read
from memplan.reporters.pictures import svg
from memplan.reporters.pictures.curves import Curve, Figure, Mark, draw
from memplan.simulator.kernels import HOST
from memplan.smoke.declared import processor
from memplan.smoke.device import Asked

FILE = Path(__file__).with_name("neurogen.svg")
EXAMPLE = Path(__file__).parents[2] / "examples" / "neurogen"
OUTPUTS = (2048, 4096, 6144, 8192, 12288, 16384, 20480, 24576, 28672, 32768)
EMBEDDINGS = (2048, 768)


def workload(embedding: int, outputs: int) -> Workload:
    """The example with other sizes than its sources'."""
    found = read(EXAMPLE).workload
    return found.changed("embedding_dim", embedding).changed("output_dim", outputs)


def predicted(run: Workload) -> int:
    """Bytes of everything that is declared."""
    return sum(trace_of(run, HOST).sizes)


def measured(run: Workload, room: Bytes) -> int | None:
    """The same as the profiler says; None where a card with so much room would refuse some of it."""
    found = processor.compare(run, Asked(budget=room))
    return None if found.shortage is not None else int(found.measured.peak_allocated)


def told(amount: int | None) -> str:
    """What was seen, in words."""
    return "refused" if amount is None else f"{amount:,}"


def curves(room: Bytes) -> Iterator[Curve]:
    """A line for each width of the embeddings, and dots where the card would have gone on."""
    for embedding in EMBEDDINGS:
        runs = {outputs: workload(embedding, outputs) for outputs in OUTPUTS}
        seen = {outputs: measured(run, room) for outputs, run in runs.items()}
        for outputs, run in runs.items():
            print(f"{embedding:>6,} {outputs:>7,}  {predicted(run):>13,} {told(seen[outputs]):>13}")
        name = f"embedding_dim {embedding}"
        yield Curve(name=name, points=tuple((outputs, predicted(run)) for outputs, run in runs.items()))
        dots = tuple((outputs, amount) for outputs, amount in seen.items() if amount is not None)
        yield Curve(name="made", points=dots, measured=True, like=name)


def main() -> None:
    """Make, compare and draw."""
    card = profiles.target("gtx1650")
    room = Bytes(card.limit - card.context)
    figure = Figure(
        title="NeuroGen: tensors on the GPU by the width of Broca",
        about="predicted (lines), and made as declared where the card would not refuse (dots)",
        across="output_dim",
        curves=tuple(curves(room)),
        marks=(Mark(name="what a GTX 1650 leaves PyTorch", bytes=room),),
        doubling=False,
        doubling_bytes=False,
    )
    FILE.write_text(svg.render(draw(figure)), encoding="utf-8")


if __name__ == "__main__":
    main()
