"""Laws that every simulated run obeys, on random small models and settings.

Memory is compared as bytes in use, not as blocks: a block may hold up to 1 MiB more than was asked for, and
which one a tensor gets depends on everything before it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.trace import Trace
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Optimizer,
    Outputs,
    Precision,
    Sequence,
    Workload,
)
from memplan.estimate import estimate, trace_of
from memplan.families import architecture
from memplan.simulator.replay import replay

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CAPABILITIES = st.sampled_from([(7, 5), (8, 0), (8, 9), (9, 0)])
LAWS = settings(max_examples=40, deadline=None)

Config = dict[str, Any]


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """A small model: any family, grouping, head width, biases and tying."""
    keys, groups = draw(st.sampled_from((1, 2, 3))), draw(st.sampled_from((1, 2, 4)))
    config: Config = {
        "model_type": draw(st.sampled_from(("llama", "mistral", "qwen2"))),
        "hidden_size": 8 * keys * groups * draw(st.integers(1, 3)),
        "intermediate_size": draw(st.integers(1, 300)),
        "num_hidden_layers": draw(st.integers(1, 4)),
        "num_attention_heads": keys * groups,
        "num_key_value_heads": keys,
        "vocab_size": draw(st.integers(2, 2000)),
        "tie_word_embeddings": draw(st.booleans()),
        "sliding_window": draw(st.sampled_from((None, 8, 4096))),
    }
    if draw(st.booleans()):
        config["head_dim"] = draw(st.sampled_from((8, 16, 96)))
    if config["model_type"] == "llama":
        config |= {"attention_bias": draw(st.booleans()), "mlp_bias": draw(st.booleans())}
    return config


@st.composite
def workloads(draw: st.DrawFn, config: st.SearchStrategy[Config] = configs()) -> Workload:  # noqa: B008
    """Any combination of settings of training."""
    params = draw(st.sampled_from((Dtype.BF16, Dtype.FP16, Dtype.FP32)))
    autocast = draw(st.sampled_from((None, Dtype.BF16))) if params is Dtype.FP32 else None
    adapter = None
    if draw(st.booleans()):
        targets = draw(st.lists(st.sampled_from(TARGETS), min_size=1, unique=True))
        dropout = draw(st.sampled_from((0.0, 0.1)))
        adapter = Adapter(rank=draw(st.integers(1, 16)), targets=tuple(targets), dropout=dropout)
    return Workload(
        model=architecture(draw(config), lambda _: None),
        precision=Precision(params=params, autocast=autocast),
        batch=Batch(micro=draw(st.integers(1, 3)), accumulation=draw(st.integers(1, 3))),
        sequence=Sequence(length=draw(st.integers(1, 40))),
        optimizer=Optimizer(
            name=draw(st.sampled_from(("adamw", "sgd"))),
            implementation=draw(st.sampled_from(("foreach", "fused", "for_loop"))),
            set_to_none=draw(st.booleans()),
        ),
        adapter=adapter,
        attention=draw(st.sampled_from(list(Attention))),
        checkpointing=Checkpointing(every=draw(st.sampled_from((0, 0, 1, 2)))),
        outputs=draw(st.sampled_from(Outputs)),
        causal_mask=draw(st.booleans()),
    )


def used(trace: Trace, *, workspaces: bool = True) -> list[int]:
    """Bytes in use after each event, with or without those of libraries."""
    total, found = 0, []
    for event in trace.events:
        block = max(event, ~event)
        if workspaces or trace.tags[block][0] != "workspace":
            total += trace.sizes[block] if event >= 0 else -trace.sizes[block]
        found.append(total)
    return found


def peak(workload: Workload) -> int:
    """The most bytes in use, apart from workspaces: recomputing a bias takes one more of them."""
    return max(used(trace_of(workload, ASSUMED_CAPABILITY), workspaces=False))


@LAWS
@given(workloads(), CAPABILITIES)
def test_every_block_is_freed_once_at_most_and_only_while_in_use(
    workload: Workload, capability: tuple[int, int]
) -> None:
    trace = trace_of(workload, capability)
    in_use: set[int] = set()
    for event in trace.events:
        if event >= 0:
            assert event not in in_use
            in_use.add(event)
        else:
            in_use.remove(~event)
    assert sorted(event for event in trace.events if event >= 0) == list(range(len(trace.sizes)))
    assert min(trace.sizes) >= 0
    assert len(trace.sizes) == len(trace.tags)


@LAWS
@given(workloads(), CAPABILITIES)
def test_a_repeated_step_ends_with_the_memory_it_began_with(
    workload: Workload, capability: tuple[int, int]
) -> None:
    trace = trace_of(workload, capability)
    start = trace.cycles[-1]
    begun = used(trace)[start - 1]
    once = sum(trace.sizes[event] for event in trace.events[start:] if event >= 0 and event in trace.once)
    assert used(trace)[-1] == begun + once


@LAWS
@given(workloads(), CAPABILITIES)
def test_sizes_are_those_of_the_tagged_shapes(workload: Workload, capability: tuple[int, int]) -> None:
    trace = trace_of(workload, capability)
    for size, (_, _, _, shape, dtype) in zip(trace.sizes, trace.tags, strict=True):
        expected = dtype.itemsize
        for side in shape:
            expected *= side
        assert size == expected


@LAWS
@given(workloads())
def test_components_sum_to_the_peak_and_none_is_above_it(workload: Workload) -> None:
    device = estimate(workload).device
    sizes = [part.bytes for part in device.components]
    assert sum(sizes) == device.peak_allocated
    assert all(0 <= size <= device.peak_allocated for size in sizes)
    for component in device.components:
        assert sum(part.bytes for part in component.parts) in (0, component.bytes)


@LAWS
@given(workloads(), CAPABILITIES)
def test_reserved_memory_covers_allocated_memory_in_every_phase(
    workload: Workload, capability: tuple[int, int]
) -> None:
    trace = trace_of(workload, capability)
    found = replay(trace)
    for reached in (*found.phases.values(), found.peak):
        assert reached.allocated <= reached.reserved
        assert reached.reserved % 2**21 == 0
    assert max(phase.allocated for phase in found.phases.values()) == found.peak.allocated
    assert found.peak.allocated >= max(used(trace))


@LAWS
@given(workloads())
def test_more_repetitions_of_the_step_change_no_peak_and_never_lower_what_is_reserved(
    workload: Workload,
) -> None:
    trace = trace_of(workload, ASSUMED_CAPABILITY)
    reserved = [replay(trace, steps).peak.reserved for steps in (3, 4, 6)]
    assert reserved == sorted(reserved)


GROWING = (
    ("batch.micro", 1),
    ("sequence.length", 1),
    ("model.num_hidden_layers", 1),
    ("model.vocab_size", 1),
    ("model.intermediate_size", 1),
)


@pytest.mark.parametrize("field", [name for name, _ in GROWING])
@settings(max_examples=25, deadline=None)
@given(data=st.data(), more=st.integers(1, 9))
def test_memory_never_falls_when_a_size_grows(field: str, data: st.DataObject, more: int) -> None:
    key = field.removeprefix("model.")
    config = data.draw(configs())
    smaller = data.draw(workloads(st.just(config)))
    if field.startswith("model."):
        grown = config | {key: config[key] + more}
        larger = smaller.changed("model", architecture(grown, lambda _: None))
    else:
        larger = smaller.changed(field, smaller.at(field) + more)
    # The kernel that sdpa leads to may change where a window stops covering the sequence.
    if smaller.attention is Attention.SDPA:
        smaller, larger = (case.changed("attention", Attention.EAGER) for case in (smaller, larger))
    assert peak(larger) >= peak(smaller)


@LAWS
@given(workloads())
def test_checkpointing_more_blocks_of_a_full_training_costs_at_most_two_hidden_states(
    workload: Workload,
) -> None:
    """With a block or two there may be nothing to gain, and a block's input is held while it runs again.

    With adapters a shallow model may lose more: checkpointing makes backward go on to the embeddings.
    """
    full = workload.changed("adapter", None)
    assert isinstance(full.model, Architecture)
    hidden_states = 4 * full.batch.micro * full.sequence.length * full.model.hidden_size
    peaks = [peak(full.changed("checkpointing.every", every)) for every in (1, 2, 0)]
    for more, less in pairwise(peaks):
        assert more <= less + 2 * hidden_states


@LAWS
@given(workloads())
def test_gradients_set_to_none_never_cost_more_than_gradients_that_stay(workload: Workload) -> None:
    freed, kept = (peak(workload.changed("optimizer.set_to_none", flag)) for flag in (True, False))
    assert freed <= kept


@LAWS
@given(workloads())
def test_a_loop_that_keeps_its_outputs_never_needs_less(workload: Workload) -> None:
    dropped, until_step, kept = (peak(workload.changed("outputs", held)) for held in Outputs)
    assert dropped <= until_step <= kept


@LAWS
@given(workloads(), st.integers(3, 50))
def test_all_accumulated_passes_after_the_second_are_alike(workload: Workload, count: int) -> None:
    twice, often = (
        trace_of(workload.changed("batch.accumulation", number), ASSUMED_CAPABILITY) for number in (2, count)
    )
    assert (twice.events, twice.sizes) == (often.events, often.sizes)
