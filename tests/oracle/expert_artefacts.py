"""What a CPU allocates differently from a GPU in models with experts, beside the rules of ``artefacts``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Trace
from memplan.domain.workload import Workload
from memplan.simulator import ops
from memplan.simulator.parameter_adapters import KERNEL_COPY
from memplan.simulator.tensor import Tensor
from tests.oracle.artefacts import SMALLEST, left_out

GPU_ONLY = (
    "sort_range",
    "radix_sort",
    "index_remainder",
    "index_linear",
    "index_sorted",
    "index_order",
    "index_range",
)
"""Bookkeeping of cub's sort, and of ``index_put_`` with accumulation, which sorts on a GPU only."""

FP32 = Dtype.FP32.itemsize


@contextmanager
def mixed_products() -> Iterator[dict[int, int]]:
    """While it lasts, collects results on two dtypes with the size of the half operand in fp32.

    The CPU casts that operand into a temporary first, a GPU reads it as it is.
    """
    found: dict[int, int] = {}
    pair = ops.pair

    def recorded(a: Tensor, b: Tensor, op: str) -> Tensor:
        result = pair(a, b, op)
        if a.dtype is not b.dtype:
            half = a if a.dtype.is_half else b
            found[result.storage.block] = FP32 * prod(half.shape)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops, "pair", recorded)
        yield found


def of_simulation(trace: Trace, workload: Workload, mixed: dict[int, int]) -> list[int]:
    """Events of the last simulated step as a CPU would make them, at least 1 KiB each."""
    skipped = left_out(trace) | set(trace.once)
    skipped |= {block for block, tag in enumerate(trace.tags) if tag[2] in GPU_ONLY}
    events: list[int] = []
    for event in trace.events[trace.cycles[-1] :]:
        block = max(event, ~event)
        if block in skipped:
            continue
        size = trace.sizes[block]
        if trace.tags[block][2] == KERNEL_COPY:
            events += _one_by_one(trace, block) if event >= 0 else []
            continue
        temporary = _temporary(trace, block, workload, mixed) if event >= 0 else 0
        around = [size if event >= 0 else -size, temporary, -temporary]
        events += [found for found in around if abs(found) >= SMALLEST]
    return events


def _one_by_one(trace: Trace, block: int) -> list[int]:
    """A GPU copies a factor of all experts at once, a CPU that of each before its own product."""
    count = trace.tags[block][3][0]
    size = trace.sizes[block] // count
    return [size, -size] * count if size >= SMALLEST else []


def _temporary(trace: Trace, block: int, workload: Workload, mixed: dict[int, int]) -> int:
    """Bytes that the CPU takes and returns right after it made a block."""
    _, scope, op, shape, dtype = trace.tags[block]
    if op == "sort_positions":
        # Positions are filled from a vector of them.
        return trace.sizes[block]
    if op == "value_selecting_backward" and dtype.is_half:
        # Scattering half numbers goes through a copy in fp32.
        return FP32 * prod(shape)
    if scope.endswith("self_attn.sinks") and op == "grad" and dtype.is_half:
        # So does a sum of half numbers, here over sequences and positions: the gradient of the sinks.
        return FP32 * shape[0] * workload.batch.micro * workload.sequence.length
    return mixed.get(block, 0)
