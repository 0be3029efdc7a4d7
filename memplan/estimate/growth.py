"""What a cache that grows token by token leaves behind in PyTorch's allocator."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Task, Workload
from memplan.simulator.generation import FIRST_STEPS
from memplan.simulator.quantized_cache import COMPONENT
from memplan.simulator.rounding import LARGE_REQUEST, SEGMENT_ROUNDING


def left_behind(workload: Workload, trace: Trace) -> int:
    """Bytes in segments that became too small, at most; PyTorch returns them when it runs short.

    Every step asks for tensors a little larger than those it frees. From 10 MiB on each has a segment of its
    own, which serves until the next multiple of 2 MiB: if nothing else can use what is left, the sum of
    all of them stays reserved. Only the first steps and the last are replayed.
    """
    if workload.task is not Task.GENERATE or workload.generate.cache == "static":
        return 0
    if workload.allocator.expandable_segments or workload.generate.new_tokens - 1 <= FIRST_STEPS + 1:
        return 0
    if workload.generate.cache == "quantized":
        return _in_full(workload)
    decode = next(start for start, phase in trace.phases if phase is Phase.DECODE)
    blocks = [block for block in trace.events if block >= 0 and trace.tags[block][0] == COMPONENT]
    count = sum(1 for block in trace.events[:decode] if block >= 0 and trace.tags[block][0] == COMPONENT)
    first, last = blocks[:count], blocks[-count:]
    return sum(_segments(trace.sizes[a], trace.sizes[b]) for a, b in zip(first, last, strict=True))


def _in_full(workload: Workload) -> int:
    """What a step has in full of one layer: keys and values, dequantized and joined, and bytes to unpack."""
    shape, asked = workload.model, workload.generate
    assert isinstance(shape, Architecture)
    numbers = workload.batch.micro * shape.num_key_value_heads * shape.head_dim
    found = 0
    for count, width in ((4, workload.compute.itemsize), (1, 1)):
        first, last = (numbers * width * tokens for tokens in (asked.prompt, asked.prompt + asked.new_tokens))
        found += count * _segments(first, last)
    return found


def _segments(first: int, last: int) -> int:
    """All segments but the last that a tensor growing from ``first`` to ``last`` bytes goes through."""
    if last < LARGE_REQUEST:
        return last
    start = max(first, LARGE_REQUEST) // SEGMENT_ROUNDING
    end = last // SEGMENT_ROUNDING
    return SEGMENT_ROUNDING * (end * (end - 1) - start * (start - 1)) // 2 if end > start else 0
