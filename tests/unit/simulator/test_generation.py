"""Generation in the simulator: what the cache takes; steps passed over are like those that are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.architecture import Architecture
from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Attention, Batch, Generate, Task, Workload
from memplan.estimate import trace_of
from memplan.simulator import generation
from tests.unit.simulator.runs import AMPERE, at_end, peak, shape, timeline

TURING = (7, 5)
WINDOW = {"model_type": "mistral", "sliding_window": 12}


def case(model: Architecture | None = None, *, batch: int = 2, **asked: Any) -> Workload:
    plain: dict[str, Any] = {"prompt": 16, "new_tokens": 9, "logits": "last"}
    return Workload(
        model=model or shape(),
        task=Task.GENERATE,
        batch=Batch(micro=batch),
        generate=Generate(**(plain | asked)),
    )


def cached(tag: Tag) -> bool:
    return tag[0] == "kv_cache"


def cache_peak(trace: Trace) -> int:
    return peak(trace, wanted=cached)


def cache_at_the_end(trace: Trace) -> int:
    """Bytes of keys and values before the cache is let go of."""
    last = max(index for index, event in enumerate(trace.events) if event >= 0 and cached(trace.tags[event]))
    return next(used for index, _, used in timeline(trace, cached) if index == last + 2)


def test_the_cache_holds_two_numbers_per_layer_key_head_and_dimension_for_every_token_but_the_last() -> None:
    model = shape()
    trace = trace_of(case(model), AMPERE)
    per_token = 2 * 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim
    assert cache_at_the_end(trace) == 2 * (16 + 9 - 1) * per_token


def test_a_step_holds_one_layers_old_keys_beside_the_new_ones() -> None:
    model = shape(num_hidden_layers=4)
    trace = trace_of(case(model, batch=4), AMPERE)
    tensor = 4 * model.num_key_value_heads * model.head_dim * 2
    assert cache_peak(trace) == 8 * tensor * 24 + tensor * 23


def test_a_static_cache_has_its_full_size_from_the_first_token() -> None:
    model = shape()
    trace = trace_of(case(model, cache="static"), AMPERE)
    full = 2 * 2 * 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * 24
    assert peak(trace, Phase.PREFILL, cached) == peak(trace, Phase.DECODE, cached) == full


def test_a_window_bounds_what_decoding_keeps_but_not_what_a_long_prompt_leaves() -> None:
    model = shape(**WINDOW)
    per_token = 2 * 2 * 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim
    trace = trace_of(case(model), AMPERE)
    assert peak(trace, Phase.PREFILL, cached) == 16 * per_token
    assert cache_at_the_end(trace) == 12 * per_token
    static = trace_of(case(model, cache="static"), AMPERE)
    assert cache_peak(static) == 12 * per_token


def test_one_new_token_takes_no_decode_step() -> None:
    trace = trace_of(case(new_tokens=1), AMPERE)
    assert [phase for _, phase in trace.phases] == [Phase.LOAD, Phase.PREFILL]


def test_nothing_but_the_model_and_the_workspaces_is_left() -> None:
    model = shape()
    trace = trace_of(case(model), AMPERE)
    buffers = 2 * 4 * (model.head_dim // 2)
    assert at_end(trace) == 2 * model.parameters + buffers


def test_logits_of_all_positions_are_as_many_as_the_prompts_tokens() -> None:
    logits = {
        kind: peak(trace_of(case(logits=kind), AMPERE), Phase.PREFILL, lambda tag: tag[1] == "lm_head")
        for kind in ("last", "all")
    }
    assert logits["all"] == 16 * logits["last"] == 2 * 2 * 16 * 96


def ops_of(workload: Workload, capability: tuple[int, int], phase: Phase) -> set[str]:
    trace = trace_of(workload, capability)
    return {
        trace.tags[event][2]
        for (index, where, _), event in zip(timeline(trace), trace.events, strict=True)
        if where is phase and event >= 0 and index >= 0
    }


def test_decoding_with_a_full_window_packs_query_heads_instead_of_repeating_keys() -> None:
    model = shape(**WINDOW)
    decoding = ops_of(case(model), AMPERE, Phase.DECODE)
    assert "efficient_attention" in decoding
    assert "flash_attention" not in decoding
    keys = [tag for tag in trace_of(case(model), AMPERE).tags if tag[2] == "clone" and tag[3][1:2] == (4,)]
    prompts = [tag for tag in keys if tag[3][-2] == 16]
    assert keys == prompts


def test_decoding_without_a_mask_is_flash_attention_where_the_gpu_has_it() -> None:
    assert "flash_attention" in ops_of(case(), AMPERE, Phase.DECODE)
    assert "softmax" in ops_of(case(), TURING, Phase.DECODE)


@pytest.mark.parametrize("attention", [Attention.SDPA, Attention.EAGER, Attention.FLASH_ATTENTION_2])
def test_more_new_tokens_take_no_more_events(attention: Attention) -> None:
    def events(tokens: int) -> int:
        return len(trace_of(case(new_tokens=tokens).changed("attention", attention), AMPERE).events)

    assert events(9) == events(5000)


@settings(max_examples=60, deadline=None)
@given(
    new_tokens=st.integers(1, 12),
    prompt=st.integers(1, 20),
    window=st.one_of(st.none(), st.integers(2, 24)),
    cache=st.sampled_from(["dynamic", "static"]),
    attention=st.sampled_from([Attention.SDPA, Attention.EAGER]),
    capability=st.sampled_from([AMPERE, TURING]),
)
def test_passing_over_steps_gives_the_peaks_of_all_of_them(
    new_tokens: int,
    prompt: int,
    window: int | None,
    cache: str,
    attention: Attention,
    capability: tuple[int, int],
) -> None:
    model = shape() if window is None else shape(model_type="mistral", sliding_window=window)
    run = case(model, prompt=prompt, new_tokens=new_tokens, cache=cache).changed("attention", attention)
    short = trace_of(run, capability)
    steps, generation.FIRST_STEPS = generation.FIRST_STEPS, new_tokens
    try:
        full = trace_of(run, capability)
    finally:
        generation.FIRST_STEPS = steps
    for phase in (Phase.PREFILL, Phase.DECODE):
        assert peak(short, phase) == peak(full, phase)
        assert peak(short, phase, cached) == peak(full, phase, cached)
    assert at_end(short) == at_end(full)


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(20, 4000), step=st.integers(1, 500))
def test_the_decoding_peak_grows_by_the_same_amount_with_every_token(tokens: int, step: int) -> None:
    def at(count: int) -> int:
        return peak(trace_of(case(new_tokens=count), AMPERE), Phase.DECODE, cached)

    assert at(tokens + step) - at(tokens) == step * (at(tokens + 1) - at(tokens))
