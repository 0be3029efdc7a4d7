"""Draws what a loop over tokens allocates in one pass, in three forms, predicted and measured.

``python -m docs.figures.buffer_preallocation`` writes the picture beside this file. Predictions are those of
the program ``buffers``, measurements the profiler's allocation events of the library on the CPU. The pool of
the form that allocates nothing in a pass is made before it, and drawn as what it takes. Sizes are those of
``examples/buffer-preallocation``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from memplan.domain.churn import Churn
from memplan.domain.setting import Scalar
from memplan.programs import buffers, token_loop
from memplan.reporters.pictures import svg
from memplan.reporters.pictures.curves import Curve, Figure, draw
from memplan.simulator.kernels import HOST
from memplan.simulator.tensor import Tape
from memplan.smoke.cpu.events import Events
from memplan.smoke.systems.buffers import Running

FILE = Path(__file__).with_name("buffer-preallocation.svg")
SIZES: dict[str, Scalar] = {"embedding": 1536, "output": 12288, "state": 256, "vocabulary": 500}
TOKENS = tuple(2**power for power in range(1, 13))
MOST = 512
"""The most tokens that are run for real."""

FORMS: dict[str, dict[str, Scalar]] = {
    "a new tensor per result": {"buffers": buffers.PER_TOKEN},
    "batches of 64": {"buffers": buffers.BATCHED, "chunk": 64},
    "buffers": {"buffers": buffers.PREALLOCATED},
}


def settings(form: str, tokens: int) -> dict[str, Scalar]:
    """Every setting of a form at a length; no chunk is longer than the sequence."""
    defaults = {item.name: item.default for item in buffers.SETTINGS if item.default is not None}
    found = {**defaults, **SIZES, **FORMS[form], "tokens": tokens, "decoding": "sampled"}
    return {**found, "chunk": min(int(found["chunk"]), tokens)}


def predicted(form: str, tokens: int) -> int:
    """Bytes that a pass allocates, as the program says; those of the pool if there is one."""
    values = settings(form, tokens)
    tape = Tape(HOST)
    if values["buffers"] == buffers.PREALLOCATED:
        token_loop.buffers(values, tape)
    return token_loop.made(tape).bytes + buffers.churn(values).bytes


def measured(form: str, tokens: int) -> int:
    """The same as the profiler says."""
    running = Running(settings(form, tokens))
    pool = sum(int(tensor.nbytes) for tensor, component, *_ in running.tensors() if component == "buffers")
    events = Events()
    with events.watching(running.tensors()) as found:
        running.step(events)
    return pool + int(Churn.of(found[0]).bytes)


def curves() -> Iterator[Curve]:
    """A line for each form, and dots where it was run."""
    for form in FORMS:
        line = tuple((tokens, predicted(form, tokens)) for tokens in TOKENS)
        dots = tuple((tokens, measured(form, tokens)) for tokens in TOKENS if tokens <= MOST)
        for (tokens, said), (_, seen) in zip(line, dots, strict=False):
            print(f"{form:>24} {tokens:>6,} tokens  {said:>13,} {seen:>13,} {said - seen:>+8,}")
        yield Curve(name=f"{form}, predicted", points=line)
        yield Curve(name="measured", points=dots, measured=True, like=f"{form}, predicted")


def main() -> None:
    """Run, compare and draw."""
    torch.manual_seed(0)
    widths = "embedding 1,536, state 256, output 12,288, 500 tokens to choose from"
    figure = Figure(
        title="A loop over tokens: bytes allocated in one pass",
        about=f"{widths}, fp32; freed in between, except for the buffers",
        across="tokens in a pass",
        curves=tuple(curves()),
    )
    FILE.write_text(svg.render(draw(figure)), encoding="utf-8")


if __name__ == "__main__":
    main()
