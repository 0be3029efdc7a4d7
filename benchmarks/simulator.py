"""Speed of the simulator, on one Llama-3.1-8B training step.

A step, three steps through the allocator's model, and the allocated peak of the same model with 1,000 layers.

Medians over several runs in one process, next to a loop of plain Python that does a fixed amount of work of
the same kind (small objects, tuples, dictionary entries). The ratio to that loop says how fast the simulator
is on any machine; milliseconds say how fast this machine is.

    python benchmarks/simulator.py [RUNS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from memplan.domain.architecture import Architecture
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Trace
from memplan.domain.workload import Checkpointing, Sequence, Workload
from memplan.estimate import trace_of
from memplan.estimate.simulation import least_allocated
from memplan.families import architecture
from memplan.simulator.replay import replay

RUNS = 15
STEPS = 3
SIMULATED_LIMIT = 5.0
REPLAYED_LIMIT = 100.0
DEEP_LIMIT = 20.0
"""Milliseconds: one simulated step, three steps through the allocator (simulation included), a deep model."""

DEEP = 1000

CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
"""Llama-3.1-8B."""

REFERENCE_OBJECTS = 20_000


def workload(every: int, layers: int = 32) -> Workload:
    """Full bf16 training, one sequence of 2048 tokens; checkpointing of every ``every``-th block."""
    return Workload(
        model=architecture(CONFIG | {"num_hidden_layers": layers}, lambda _: None),
        sequence=Sequence(length=2048),
        checkpointing=Checkpointing(every=every),
    )


class _Item:
    __slots__ = ("following", "key")

    def __init__(self, key: tuple[int, int], following: _Item | None) -> None:
        self.key = key
        self.following = following


def reference() -> int:
    """Make objects that refer to each other, keep them by key, and let them go again."""
    kept: dict[tuple[int, int], _Item] = {}
    last: _Item | None = None
    for number in range(REFERENCE_OBJECTS):
        last = _Item((number % 977, number), last if number % 31 else None)
        kept[last.key] = last
    total = 0
    for key in sorted(kept):
        total += kept.pop(key).key[0]
    return total


def milliseconds(work: Callable[[], object]) -> float:
    """Time of one call."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def measure(case: Workload, runs: int) -> tuple[float, float, float, Trace]:
    """Median milliseconds of a step, of three steps through the allocator, and of the reference, in turns."""
    found: list[tuple[float, float, float]] = []
    trace = trace_of(case, ASSUMED_CAPABILITY)
    replay(trace, STEPS)
    for _ in range(runs):
        simulated = milliseconds(lambda: trace_of(case, ASSUMED_CAPABILITY))
        replayed = milliseconds(lambda: replay(trace, STEPS))
        found.append((simulated, simulated + replayed, milliseconds(reference)))
    simulated, replayed, plain = (statistics.median(times) for times in zip(*found, strict=True))
    return simulated, replayed, plain, trace


def main(arguments: list[str]) -> int:
    """Print the medians, event counts and ratios; 1 when a median is above its limit."""
    runs = max(9, int(arguments[0])) if arguments else RUNS
    slow = False
    for name, every in (("no checkpointing", 0), ("checkpointed", 1)):
        simulated, replayed, plain, trace = measure(workload(every), runs)
        repeated = len(trace.events) - trace.cycles[-1]
        events = len(trace.events) + (STEPS - len(trace.cycles)) * repeated
        print(
            f"Llama-3.1-8B, full bf16, 1 x 2048, {name}, medians of {runs} runs:\n"
            f"  one step simulated        {simulated:6.1f} ms  {repeated:6} events"
            f"  {simulated / plain:4.1f} x the reference loop (at most {SIMULATED_LIMIT:.0f} ms)\n"
            f"  three through the allocator {replayed:4.1f} ms  {events:6} events"
            f"  {replayed / plain:4.1f} x the reference loop (at most {REPLAYED_LIMIT:.0f} ms)\n"
            f"  reference loop            {plain:6.1f} ms  {REFERENCE_OBJECTS:6} objects"
        )
        slow = slow or simulated > SIMULATED_LIMIT or replayed > REPLAYED_LIMIT
    deep = deepest(runs)
    print(f"{DEEP} layers of it: allocated peak in {deep:.1f} ms (at most {DEEP_LIMIT:.0f} ms)")
    return 1 if slow or deep > DEEP_LIMIT else 0


def deepest(runs: int) -> float:
    """Median milliseconds for the allocated peak of a deep model."""
    case = workload(0, DEEP)
    assert isinstance(case.model, Architecture)
    model = case.model
    work = lambda: least_allocated(case, model, ASSUMED_CAPABILITY)  # noqa: E731
    return statistics.median(milliseconds(work) for _ in range(runs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
