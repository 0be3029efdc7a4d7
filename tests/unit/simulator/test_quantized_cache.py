"""A cache in 4 bits: what it keeps of the prompt, when the newest tokens join it, and when it is offered."""

from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Batch, Generate, Precision, Task, Workload
from memplan.estimate import estimate, trace_of
from memplan.levers import kv_cache, prompt_logits
from memplan.simulator.quantized_cache import GROUP
from tests.planning import HEADS, HIDDEN, LAYERS, MODEL

WIDTH = HIDDEN // HEADS


def asked(cache: str, prompt: int = 512, new_tokens: int = 4, logits: str = "last") -> Workload:
    return Workload(
        model=MODEL,
        task=Task.GENERATE,
        precision=Precision(params=Dtype.BF16),
        batch=Batch(micro=2),
        generate=Generate(prompt=prompt, new_tokens=new_tokens, cache=cache, logits=logits),
    )


def kept(workload: Workload) -> dict[str, int]:
    """Bytes of the cache at the end, by the op that made them."""
    trace = trace_of(workload, (8, 0))
    freed_last = [event for event in trace.events if event >= 0 and trace.tags[event][0] == "kv_cache"]
    alive = set(freed_last)
    found: dict[str, int] = {}
    ends = {~event: place for place, event in enumerate(trace.events) if event < 0}
    last = max(place for place, event in enumerate(trace.events) if event >= 0)
    for block in alive:
        if ends.get(block, len(trace.events)) > last:
            op = trace.tags[block][2]
            found[op] = found.get(op, 0) + trace.sizes[block]
    return found


@pytest.mark.parametrize(("new_tokens", "whole"), [(4, 3), (128, 127), (129, 0), (130, 1), (300, 43)])
def test_the_prompt_is_in_4_bits_and_the_newest_tokens_are_whole_until_there_are_128(
    new_tokens: int, whole: int
) -> None:
    steps = new_tokens - 1
    numbers = 2 * HEADS * WIDTH * 2 * LAYERS
    packed = 512 + steps - whole
    found = kept(asked("quantized", new_tokens=new_tokens))
    assert found.pop("zeros") == numbers * packed // 2
    assert found.pop("div") == found.pop("neg") == numbers * packed // GROUP * 2
    assert found.pop("cat", 0) == numbers * whole * 2
    assert found == {}


def test_a_long_cache_takes_less_than_half_of_one_that_grows() -> None:
    grows, small = (estimate(asked(cache, prompt=8192)).device for cache in ("dynamic", "quantized"))
    parts = [{part.name: part.bytes for part in device.components} for device in (grows, small)]
    assert parts[1]["kv_cache"] < parts[0]["kv_cache"] / 2
    assert small.peak_allocated < grows.peak_allocated


def test_it_is_offered_where_every_layer_keeps_every_token() -> None:
    (option,) = kv_cache.options(asked("dynamic"), None)
    assert option.requires == ("optimum-quanto",)
    windowed = asked("dynamic").changed("model.sliding_window", 128)
    for other in (
        asked("static"),
        asked("quantized"),
        windowed,
        asked("dynamic").changed("task", Task.TRAIN),
    ):
        assert kv_cache.options(other, None) == ()


def test_only_the_last_logits_of_a_prompt_are_needed() -> None:
    (option,) = prompt_logits.options(asked("dynamic", logits="all"), None)
    after = asked("dynamic", logits="all").changed("generate.logits", option.changes["generate.logits"])
    assert after == asked("dynamic")
    assert prompt_logits.options(after, None) == ()
    whole = estimate(asked("dynamic", logits="all")).device.peak_allocated
    assert estimate(after).device.peak_allocated < whole
