"""Steady states and peaks of the optimizer step: P parameters of 2 bytes unless said otherwise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Adapter, Optimizer, Workload
from tests.unit.simulator.runs import AMP, FP32, alive, at_end, at_start, model_of, peak, run, shape, workload

RESIDENT = frozenset({"embeddings", "decoder_matrix", "blocks", "gradients", "optimizer_state"})


def of_training(tag: Tag) -> bool:
    """Weights, gradients, states and what the step itself makes; not the rotary buffers."""
    return (tag[0] in RESIDENT or tag[1] == "optimizer") and "inv_freq" not in tag[1]


def case(**optimizer: Any) -> Workload:
    return workload(optimizer=Optimizer(**optimizer))


P = model_of(case()).parameters


def sizes_in_order(trace: Trace) -> list[int]:
    """Bytes of each parameter, as the optimizer walks them."""
    return [
        trace.sizes[block]
        for block, tag in enumerate(trace.tags)
        if tag[2] == "parameter" and "inv_freq" not in tag[1]
    ]


@pytest.mark.parametrize(
    ("optimizer", "resting", "highest"),
    [
        ({}, 6, 10),
        ({"name": "adam"}, 6, 10),
        ({"set_to_none": False}, 8, 10),
        ({"implementation": "fused"}, 6, 8),
        ({"name": "sgd"}, 2, 4),
        ({"name": "sgd", "set_to_none": False}, 4, 4),
    ],
)
def test_bytes_per_parameter_at_rest_and_at_the_peak_of_the_step(
    optimizer: dict[str, Any], resting: int, highest: int
) -> None:
    trace = run(case(**optimizer))
    counters = sum(4 for tag in trace.tags if tag[2] == "step")
    assert at_end(trace, of_training) == resting * P + counters
    before = at_start(trace, Phase.OPTIMIZER, of_training)
    assert max(before, peak(trace, Phase.OPTIMIZER, of_training)) == highest * P + counters


def test_fused_keeps_a_step_counter_of_four_bytes_for_each_parameter() -> None:
    trace = run(case(implementation="fused"))
    counters = [trace.sizes[block] for block, tag in enumerate(trace.tags) if tag[2] == "step"]
    assert counters == [4] * len(sizes_in_order(trace))


def test_the_for_loop_holds_a_root_and_two_denominators_at_most() -> None:
    trace = run(case(implementation="for_loop"))
    sizes = sizes_in_order(trace)
    widest = max([2 * sizes[0]] + [before + 2 * size for before, size in pairwise(sizes)])
    assert peak(trace, Phase.OPTIMIZER, lambda tag: tag[1] == "optimizer") == widest


@pytest.mark.parametrize("precision", [FP32, AMP])
def test_fp32_parameters_rest_at_twelve_bytes_and_peak_at_twenty(precision: Any) -> None:
    trace = run(workload(precision=precision))
    assert at_end(trace, of_training) == 12 * P
    assert peak(trace, Phase.OPTIMIZER, of_training) == 20 * P


def test_states_are_made_once() -> None:
    trace = run(case())
    states = {block for block, tag in enumerate(trace.tags) if tag[0] == "optimizer_state"}
    assert states <= trace.once
    assert states <= alive(trace)


def test_only_adapters_get_gradients_and_states() -> None:
    model = shape()
    trace = run(workload(model, adapter=Adapter(rank=4, targets=("q_proj", "down_proj"))))
    per_layer = 4 * ((32 + 32) + (80 + 32))
    adapter = sum(trace.sizes[block] for block, tag in enumerate(trace.tags) if tag[0] == "adapter")
    states = at_end(trace, lambda tag: tag[0] == "optimizer_state")
    assert adapter == 4 * 2 * per_layer
    assert states == 2 * adapter
    assert peak(trace, None, lambda tag: tag[0] == "gradients") == adapter


def test_a_tied_matrix_is_held_once_and_has_one_gradient() -> None:
    tied, untied = run(workload(shape(tie_word_embeddings=True))), run(workload())
    table = 2 * 96 * 32
    assert at_end(untied, of_training) - at_end(tied, of_training) == 3 * table
    # The head's gradient is a view, to which the embedding's cannot be added in place: three for a moment.
    wide = {tag for tag in tied.tags if tag[3] == (96, 32) and tag[0] != "optimizer_state"}
    made = [
        tag[2] for tag in tied.tags if tag in wide and tag[2] in ("mm", "embedding_dense_backward", "grad")
    ]
    assert made == ["mm", "embedding_dense_backward", "grad"]
    of_gradients = peak(tied, Phase.BACKWARD, lambda tag: tag in wide and tag[2] != "parameter")
    assert of_gradients == 3 * table


def test_a_step_frees_gradients_only_where_they_are_set_to_none() -> None:
    def gradients(tag: Tag) -> bool:
        return tag[0] == "gradients"

    assert at_end(run(case()), gradients) == 0
    assert at_end(run(case(set_to_none=False)), gradients) == 2 * P
