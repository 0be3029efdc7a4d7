"""How long the cost model takes to price one plan: a search asks it thousands of times.

Processor time of one process, as that of other programs must not count.

    python benchmarks/cost.py [ROUNDS]
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from itertools import product

from memplan import profiles
from memplan.domain.checkpointing import Checkpointing
from memplan.domain.workload import Batch, Evaluation, Sequence, Workload, World
from memplan.families import architecture
from memplan.levers.cost import slowdown

ROUNDS = 20
MODEL = "meta-llama/Llama-3.1-8B"
GPU = "a100-80gb"

RUNS = {
    "one GPU": (World(), None),
    "one GPU, evaluated": (World(), Evaluation()),
    "8 GPUs, FSDP": (World(data_parallel=8, sharding="fsdp2"), None),
    "8 GPUs, ZeRO-3, evaluated": (World(data_parallel=8, sharding="zero3"), Evaluation()),
}


def microseconds(world: World, evaluation: Evaluation | None, rounds: int) -> float:
    """Of one plan, over plans of many micro-batches, lengths and kinds of checkpointing."""
    profile = profiles.model(MODEL)
    assert profile is not None
    model = architecture(profile.config, lambda _: None)
    target = profiles.target(GPU)
    before = Workload(model=model, world=world, evaluation=evaluation)
    settings = product((1, 2, 4, 8), (512, 1024, 2048, 4096), (0, 1, 2, 4))
    plans = [
        replace(
            before,
            batch=Batch(micro=micro, accumulation=8 // micro),
            sequence=Sequence(length=length),
            checkpointing=Checkpointing(every=every),
        )
        for micro, length, every in settings
    ]
    started = time.process_time()
    for _ in range(rounds):
        for plan in plans:
            slowdown(before, plan, target)
    return (time.process_time() - started) / rounds / len(plans) * 1e6


def main(arguments: list[str]) -> int:
    """Print microseconds of a plan for each kind of run."""
    rounds = int(arguments[0]) if arguments else ROUNDS
    for name, (world, evaluation) in RUNS.items():
        print(f"{name:<26} {microseconds(world, evaluation, rounds):6.1f} µs a plan")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
