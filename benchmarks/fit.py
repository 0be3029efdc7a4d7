"""How fast a plan is found: against a grid of all candidates, as a whole process, and over many configs.

The grid estimates every candidate of the same space and takes the best; both are made in one run, and must
agree.

    python benchmarks/fit.py [FOLDER]

With a folder, 200 of its configs (every n-th in the order of their paths) are planned for an RTX 3090 on all
cores.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from memplan import profiles
from memplan.domain.errors import MemplanError
from memplan.domain.target import Target
from memplan.estimate import estimate
from memplan.fit import fit, least
from memplan.fit.policy import Policy, policy_for
from memplan.fit.search import Search
from memplan.levers.compatible import compatible
from memplan.read import read

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
CASES = (
    (EXAMPLES / "llama-3.1-8b", "a100-80gb"),
    (EXAMPLES / "llama-3.1-8b", "rtx3090"),
    (EXAMPLES / "llama-3.1-8b", "gtx1650"),
    (EXAMPLES / "axolotl-lora" / "config.yml", "rtx3090"),
    (EXAMPLES / "axolotl-lora" / "config.yml", "gtx1650"),
)
GRID = (
    (ROOT / "tests" / "golden" / "plans" / "bert-large-full.yaml", "rtx3060"),
    (ROOT / "tests" / "golden" / "plans" / "vit-large.yaml", "rtx3090"),
)
KEPT = ("loss", "kernels", "optimizer", "activation_offload", "allocator")
"""What both leave alone, so that the grid ends within a minute."""

CONFIGS = 200
LIMIT_PROCESS, LIMIT_CONFIGS = 0.5, 60.0
"""Seconds: a plan for an 8B config as a whole process, 200 configs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a way of planning found, the candidates it looked at, and the seconds of CPU it took."""

    price: tuple[object, ...] | None
    candidates: int
    seconds: float


def searched(path: Path, target: Target) -> Found:
    """By the search."""
    reading = read(path)
    policy = restricted(path, target)
    start = time.process_time()
    search = Search(reading.workload, policy, estimate, floor=least)
    best = search.best()
    seconds = time.process_time() - start
    return Found(price=best.price if best else None, candidates=search.looked_at, seconds=seconds)


def grid(path: Path, target: Target) -> Found:
    """By an estimate of every candidate."""
    reading = read(path)
    policy = restricted(path, target)
    start = time.process_time()
    search = Search(reading.workload, policy, estimate)
    entries = [entry for entry in search.space if compatible(entry.workload)]
    fitting = [entry for entry in entries if policy.accepts(estimate(entry.workload, target))]
    best = min((entry.price for entry in fitting), default=None)
    return Found(price=best, candidates=len(entries), seconds=time.process_time() - start)


def restricted(path: Path, target: Target) -> Policy:
    """The policy of a config, with some fields kept."""
    from memplan.domain.harm import Harm

    return policy_for(read(path), target, profile=None, margin=None, allow=Harm.EXACT, keep=KEPT)


def process(path: Path, gpu: str) -> float:
    """Seconds of CPU of ``memplan fit`` as a whole process, the least of three."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "memplan", "fit", str(path), "--gpu", gpu]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def planned(path: Path) -> str:
    """What became of one config."""
    try:
        plan = fit(read(path), profiles.target("rtx3090"), brief=True)
    except MemplanError:
        return "not read"
    return "feasible" if plan.feasible else "infeasible"


def folder(root: Path) -> None:
    """Plan many configs of a folder, and print how many came out how."""
    paths = [path for path in sorted(root.rglob("*")) if path.is_file() and _read(path)]
    chosen = paths[:: max(1, len(paths) // CONFIGS)][:CONFIGS]
    start = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(pool.map(planned, chosen, chunksize=4))
    seconds = time.perf_counter() - start
    counts = ", ".join(f"{outcomes.count(word)} {word}" for word in sorted(set(outcomes)))
    print(f"{len(chosen)} configs in {seconds:.1f} s (limit {LIMIT_CONFIGS:.0f} s): {counts}")


def _read(path: Path) -> bool:
    try:
        read(path)
    except (MemplanError, OSError):
        return False
    return True


def main() -> None:
    """Print all three."""
    print("search against a grid over the same space")
    for path, gpu in GRID:
        target = profiles.target(gpu)
        quick, slow = searched(path, target), grid(path, target)
        same = "the same plan" if quick.price == slow.price else "ANOTHER PLAN"
        ratio, pace = slow.seconds / quick.seconds, slow.candidates / quick.seconds
        print(
            f"  {path.stem} on {gpu}: {quick.candidates} of {slow.candidates} candidates looked at, "
            f"{quick.seconds:.2f} s against {slow.seconds:.2f} s of CPU, {ratio:.1f} times as fast, "
            f"{pace:.0f} candidates decided per second, {same}"
        )
    print(f"memplan fit as a whole process, CPU time (limit {LIMIT_PROCESS} s for an 8B config)")
    for path, gpu in CASES:
        print(f"  {path.relative_to(ROOT)} on {gpu}: {process(path, gpu):.2f} s")
    if len(sys.argv) > 1:
        folder(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
