"""The real Llama-3.1-8B class on fake tensors: time of a step, memory of the process, error of predictions.

Each setting runs in a process of its own, so that the resident set is its own; the time is that of tracing,
without importing torch and transformers. One trace is two steps.

    python benchmarks/oracle.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "examples" / "llama-3.1-8b"
MOST_MEMORY = 600 * 10**6
MOST_SECONDS = 30.0

SETTINGS: dict[str, tuple[str, ...]] = {
    "full, bf16": (),
    "full, fp32 + autocast, checkpointed": ("params=fp32", "autocast=bf16", "checkpointing=full"),
    "full, bf16, eager": ("attention=eager",),
    "full, fp16, eager, turing": ("params=fp16", "attention=eager", "gpu=t4"),
    "LoRA, bf16": ("lora",),
    "LoRA, bf16, checkpointed": ("lora", "checkpointing=full"),
}
"""What is changed of the plain run: full training in bf16, one sequence of 2,048 tokens."""


def one(settings: tuple[str, ...]) -> dict[str, float]:
    """Trace one setting in this process."""
    from memplan.domain.workload import Adapter
    from memplan.profiles import target
    from memplan.read import read
    from memplan.smoke.compare import compare
    from memplan.smoke.libraries import require
    from memplan.smoke.trace import trace

    values = dict(setting.partition("=")[::2] for setting in settings)
    overrides = [f"{_KEYS[key]}={value}" for key, value in values.items() if key in _KEYS]
    workload = read(str(CONFIG), overrides=overrides).workload
    if "lora" in values:
        workload = replace(
            workload, adapter=Adapter(rank=16, targets=("q_proj", "k_proj", "v_proj", "o_proj"))
        )
    on = target(values.get("gpu", "rtx3090"))
    import peft  # noqa: F401

    started = time.perf_counter()
    traced = trace(workload, on.compute_capability)
    seconds = time.perf_counter() - started
    found = compare(workload, on, require(workload))
    pairs = zip(dict(found.predicted.phases).values(), dict(found.measured.phases).values(), strict=True)
    return {
        "seconds": seconds,
        "events": len(traced.trace.events),
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak": found.measured.peak_allocated,
        "worst": max(abs(before - after) / after for before, after in pairs),
    }


_KEYS = {
    "params": "precision.params",
    "autocast": "precision.autocast",
    "checkpointing": "checkpointing",
    "attention": "attention",
}


def main() -> int:
    """Print one line for each setting; fail when memory or time is exceeded."""
    print(f"{'setting':37} {'step':>8} {'events':>8} {'process':>9} {'peak':>9} {'worst phase':>12}")
    failed = False
    for name, settings in SETTINGS.items():
        command = [sys.executable, __file__, "--one", *settings]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        step = found["seconds"] / 2
        failed |= found["resident"] > MOST_MEMORY or step > MOST_SECONDS
        print(
            f"{name:37} {step:6.1f} s {found['events']:8} {found['resident'] / 1e6:6.0f} MB"
            f" {found['peak'] / 2**30:5.1f} GiB {100 * found['worst']:10.4f} %"
        )
    print(f"limits: {MOST_MEMORY / 1e6:.0f} MB and {MOST_SECONDS:.0f} s a step")
    return int(failed)


if __name__ == "__main__":
    if "--one" in sys.argv:
        print(json.dumps(one(tuple(sys.argv[2:]))))
    else:
        sys.exit(main())
