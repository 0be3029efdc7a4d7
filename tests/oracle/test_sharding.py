"""The simulator against real steps of several processes that talk over gloo: events, in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from itertools import dropwhile
from math import prod
from pathlib import Path

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from tests.oracle import artefacts
from tests.oracle.shard_cases import FLAT, SHARDED, sharded
from tests.oracle.test_events import differences

GLOO_COPIES = {"all_gather": 2, "reduce_scatter": 1}
"""Copies gloo makes of what it exchanges, which its own thread frees; NCCL makes none."""


Measured = dict[str, dict[str, list[int]]]
"""Of each case, events of wrapping the model and of a step."""


@pytest.fixture(scope="module")
def measured() -> Measured:
    missing = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip("torch, transformers and peft are not installed: pip install 'memplan[smoke]'")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "ignore", "-m", "tests.oracle.ranks"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    found: Measured = json.loads(done.stdout)
    return found


def exchanged(trace: Trace) -> Counter[int]:
    """Sizes of what the last step exchanges, with how many more of them gloo makes."""
    copies: Counter[int] = Counter()
    for block in trace.events[trace.cycles[-1] :]:
        if block >= 0 and trace.tags[block][2] in GLOO_COPIES:
            copies[trace.sizes[block]] += GLOO_COPIES[trace.tags[block][2]]
    return copies


def padded(trace: Trace, case: Workload) -> set[int]:
    """Sizes of gradients that the CPU's ``_chunk_cat`` pads in copies; CUDA's kernel pads on the way."""
    count = case.world.data_parallel
    found = set()
    for _, _, op, shape, dtype in trace.tags:
        if op == "gathered" and case.world.sharding == "fsdp2" and shape[0] % count:
            found.add(-(-shape[0] // count) * count * prod(shape[1:]) * dtype.itemsize)
    return found


def is_free(event: int) -> bool:
    return event < 0


def without_casts(sizes: list[int], case: Workload, trace: Trace) -> list[int]:
    """Events without copies of gradients that go at once: the CPU's ``_chunk_cat`` makes one to cast it."""
    if case.world.reduce_dtype is None:
        return sizes
    gradients = {trace.sizes[block] for block, tag in enumerate(trace.tags) if tag[0] == "gradients"}
    kept: list[int] = []
    for size in sizes:
        if kept and size == -kept[-1] and kept[-1] in gradients:
            kept.pop()
        else:
            kept.append(size)
    return kept


@pytest.mark.parametrize("name", SHARDED)
def test_the_events_of_one_rank_are_those_of_a_real_step(name: str, measured: Measured) -> None:
    case = sharded(*SHARDED[name])
    trace = trace_of(case, ASSUMED_CAPABILITY)
    copies = exchanged(trace)
    left_out = padded(trace, case) | set(copies)
    real = artefacts.of_profiler(measured[name]["step"], case)
    simulated = artefacts.of_simulation(trace, case)
    assert len(real) > 200
    compared = [
        without_casts([size for size in sizes if abs(size) not in left_out], case, trace)
        for sizes in (simulated, real)
    ]
    assert differences(*compared) == []
    made = Counter(size for size in simulated if size in copies)
    assert Counter(size for size in real if size in copies) == copies + made


@pytest.mark.parametrize("name", FLAT)
def test_the_events_of_flat_parameters_are_those_of_a_real_step(name: str, measured: Measured) -> None:
    case = sharded(*FLAT[name])
    # Gradients of the step before go first; the profiler does not know what was allocated before it started.
    real = list(dropwhile(is_free, artefacts.of_profiler(measured[name]["step"], case)))
    whole = artefacts.of_simulation(trace_of(case, ASSUMED_CAPABILITY), case)
    simulated = list(dropwhile(is_free, whole))
    assert len(real) > 200
    assert differences(simulated, real) == []
    assert max(artefacts.running(simulated)) == max(artefacts.running(real))


DDP = [name for name in SHARDED if name.startswith("ddp")]


@pytest.mark.parametrize("name", DDP)
def test_wrapping_sends_parameters_and_makes_the_first_bucket(name: str, measured: Measured) -> None:
    trace = trace_of(sharded(*SHARDED[name]), ASSUMED_CAPABILITY)
    made = [
        trace.sizes[event]
        for event in trace.events[: trace.cycles[0]]
        if event >= 0 and trace.tags[event][1] == "ddp" and trace.sizes[event] >= artefacts.SMALLEST
    ]
    # gloo's thread frees what was sent whenever it gets to it.
    assert made == [size for size in measured[name]["wrapping"] if size >= artefacts.SMALLEST]


@pytest.mark.parametrize("name", DDP)
def test_the_peak_with_buckets_is_that_of_a_real_step(name: str, measured: Measured) -> None:
    case = sharded(*SHARDED[name])
    peak = max(artefacts.running(artefacts.of_profiler(measured[name]["step"], case)))
    trace = trace_of(case, ASSUMED_CAPABILITY)
    assert max(artefacts.running(artefacts.of_simulation(trace, case))) == peak
