"""What a loop over tokens allocates and how fast it is: per token, with buffers, and in batches.

The sizes are those of ``examples/buffer-preallocation``. Allocations are those that PyTorch's profiler sees
in one pass, beside what ``memplan.programs.buffers`` foretells; they are the same everywhere. Tokens per
second of processor time depend on the machine, so only their ratio to the loop that allocates is printed:
each form runs in turn, on one thread, and its fastest pass counts.

    python benchmarks/buffers.py [--check]     with --check: exit code 1 if an allocation was not foretold
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.tables import aligned
from memplan.domain.churn import Churn
from memplan.domain.setting import Scalar
from memplan.programs import buffers
from memplan.smoke.cpu.events import Events
from memplan.smoke.meter import Deaf
from memplan.smoke.systems.buffers import start

SIZES: dict[str, Scalar] = {"embedding": 1536, "output": 12288, "state": 256, "vocabulary": 500}
TOKENS = (100, 500, 1000, 3000)
"""Lengths of the table that this system began with."""

FORMS: dict[str, dict[str, Scalar]] = {
    "per token": {"buffers": buffers.PER_TOKEN},
    "buffers": {"buffers": buffers.PREALLOCATED},
    "batches of 100": {"buffers": buffers.BATCHED, "chunk": 100},
}
ROUNDS = 5
TIMED = 500
"""Tokens of the passes that are timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One form at one length: allocations as foretold and as seen."""

    form: str
    tokens: int
    foretold: Churn
    seen: Churn


def settings(form: str, tokens: int) -> dict[str, Scalar]:
    """Every setting of a form at a length."""
    defaults = {item.name: item.default for item in buffers.SETTINGS if item.default is not None}
    return {**defaults, **SIZES, **FORMS[form], "tokens": tokens, "decoding": "sampled"}


def passed(form: str, tokens: int) -> Pass:
    """Run one pass under the profiler."""
    values = settings(form, tokens)
    running = start(values)
    events = Events()
    with events.watching(running.tensors()) as found:
        running.step(events)
    return Pass(form=form, tokens=tokens, foretold=buffers.churn(values), seen=Churn.of(found[0]))


def ratios() -> dict[str, float]:
    """Tokens per second of every form over those of the first."""
    running = {form: start(settings(form, TIMED)) for form in FORMS}
    fastest = dict.fromkeys(FORMS, float("inf"))
    for _ in range(ROUNDS):
        for form, loop in running.items():
            started = time.process_time()
            loop.step(Deaf())
            fastest[form] = min(fastest[form], time.process_time() - started)
    first = next(iter(fastest.values()))
    return {form: first / seconds for form, seconds in fastest.items()}


def _rows(found: list[Pass]) -> Iterator[list[str]]:
    """One row per pass, each beside the loop that allocates at the same length."""
    yield ["form", "tokens", "allocations", "bytes", "as foretold", "fewer allocations", "fewer bytes"]
    for item in found:
        first = next(other.seen for other in found if other.tokens == item.tokens)
        fewer = [
            f"{100 * (1 - part / whole):.1f} %"
            for part, whole in ((item.seen.count, first.count), (item.seen.bytes, first.bytes))
        ]
        as_foretold = "yes" if item.foretold == item.seen else "NO"
        counts = [f"{item.seen.count:,}", item.seen.bytes.rounded(), as_foretold]
        yield [item.form, f"{item.tokens:,}", *counts, *fewer]


def main(arguments: list[str]) -> int:
    """Print both tables; 1 if something was asked to be checked and differs."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    found = [passed(form, tokens) for tokens in TOKENS for form in FORMS]
    print(aligned([*_rows(found)]))
    speeds = [[form, f"{ratio:.2f}x"] for form, ratio in ratios().items()]
    print(aligned([["form", "tokens per second"], *speeds]), end="")
    return 1 if "--check" in arguments and any(item.foretold != item.seen for item in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
