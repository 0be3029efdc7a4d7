"""The simulator against real steps of several processes that talk over gloo: events, in order."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from math import prod
from pathlib import Path

import pytest

from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.estimate import trace_of
from tests.oracle import artefacts
from tests.oracle.libraries import library
from tests.oracle.shard_cases import SHARDED, sharded
from tests.oracle.test_events import differences

GLOO_COPIES = {"all_gather": 2, "reduce_scatter": 1}
"""Copies gloo makes of what it exchanges, which its own thread frees; NCCL makes none."""


@pytest.fixture(scope="module")
def measured() -> dict[str, list[int]]:
    library("torch")
    library("transformers")
    library("peft")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "ignore", "-m", "tests.oracle.ranks"]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    found: dict[str, list[int]] = json.loads(done.stdout)
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
def test_the_events_of_one_rank_are_those_of_a_real_step(name: str, measured: dict[str, list[int]]) -> None:
    case = sharded(*SHARDED[name])
    trace = trace_of(case, ASSUMED_CAPABILITY)
    copies = exchanged(trace)
    left_out = padded(trace, case) | set(copies)
    real = artefacts.of_profiler(measured[name], case)
    simulated = artefacts.of_simulation(trace, case)
    assert len(real) > 200
    compared = [
        without_casts([size for size in sizes if abs(size) not in left_out], case, trace)
        for sizes in (simulated, real)
    ]
    assert differences(*compared) == []
    made = Counter(size for size in simulated if size in copies)
    assert Counter(size for size in real if size in copies) == copies + made


@pytest.mark.parametrize("name", [name for name in SHARDED if name.startswith("ddp")])
def test_the_peak_with_buckets_is_that_of_a_real_step(name: str, measured: dict[str, list[int]]) -> None:
    case = sharded(*SHARDED[name])
    peak = max(artefacts.running(artefacts.of_profiler(measured[name], case)))
    trace = trace_of(case, ASSUMED_CAPABILITY)
    assert max(artefacts.running(artefacts.of_simulation(trace, case))) == peak


@pytest.mark.parametrize("name", [name for name in SHARDED if name.startswith("fsdp2")])
def test_the_peak_of_shards_is_that_of_a_real_step_but_for_copies_of_gloo(
    name: str, measured: dict[str, list[int]]
) -> None:
    case = sharded(*SHARDED[name])
    trace = trace_of(case, ASSUMED_CAPABILITY)
    peak = max(artefacts.running(artefacts.of_profiler(measured[name], case)))
    simulated = max(artefacts.running(artefacts.of_simulation(trace, case)))
    assert 0 <= peak - simulated <= sum(padded(trace, case)) + max(exchanged(trace))
