"""Activations in host memory: what the GPU is spared, and what the host gets."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from memplan.domain.architecture import Architecture
from memplan.domain.host import ActivationOffload
from memplan.domain.trace import Phase
from memplan.domain.workload import Checkpointing, Sequence, Workload
from memplan.estimate import estimate
from memplan.estimate.host.pinned import block
from memplan.estimate.simulation import folded, simulated
from memplan.families import architecture
from memplan.simulator.offload import RETURNED
from memplan.simulator.units import IrregularError
from tests.property.test_repetition import same

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "vocab_size": 1000,
}
LENGTH = 1024
HIDDEN = LENGTH * 256 * 2
FULL = Checkpointing(every=1)
AWAY = Checkpointing(every=1, offload=True)


def workload(**changes: Any) -> Workload:
    plain = Workload(model=architecture(CONFIG, lambda _: None), sequence=Sequence(length=LENGTH))
    return replace(plain, **changes)


def peak(**changes: Any) -> int:
    return int(estimate(workload(**changes)).device.peak_allocated)


def on_host(**changes: Any) -> int:
    parts = estimate(workload(**changes)).host.components
    return sum(int(part.bytes) for part in parts if part.name == "offloaded_activations")


def test_inputs_of_checkpointed_blocks_wait_in_blocks_of_a_power_of_two() -> None:
    assert on_host(checkpointing=AWAY) == 8 * block(HIDDEN)


def test_every_second_block_sends_half_as_much() -> None:
    assert on_host(checkpointing=Checkpointing(every=2, offload=True)) == 4 * block(HIDDEN)


@pytest.mark.parametrize("reentrant", [False, True])
def test_the_gpu_is_spared_the_inputs_of_the_blocks(reentrant: bool) -> None:
    kept, away = (
        dict(estimate(workload(checkpointing=replace(way, reentrant=reentrant))).device.phases)
        for way in (FULL, AWAY)
    )
    assert kept[Phase.LOSS] - away[Phase.LOSS] == 8 * HIDDEN


@pytest.mark.parametrize("kind", [kind for kind in ActivationOffload if kind is not ActivationOffload.NONE])
def test_no_kind_of_offload_takes_more_than_none(kind: ActivationOffload) -> None:
    assert peak(activation_offload=kind) < peak()
    assert on_host(activation_offload=kind) > 0


def test_a_second_stream_keeps_more_on_the_gpu() -> None:
    single, streams = ActivationOffload.SINGLE_STREAM, ActivationOffload.STREAMS
    assert peak(activation_offload=single) < peak(activation_offload=streams)


def test_nothing_goes_to_the_host_unasked() -> None:
    assert on_host(checkpointing=FULL) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"checkpointing": AWAY},
        {"checkpointing": replace(AWAY, reentrant=True)},
        *({"activation_offload": kind} for kind in ActivationOffload),
        *({"activation_offload": kind, "checkpointing": FULL} for kind in ActivationOffload),
    ],
    ids=str,
)
def test_layers_left_out_do_what_the_others_do(changes: dict[str, Any]) -> None:
    case = workload(**changes)
    assert isinstance(case.model, Architecture)
    part = folded(case, case.model)
    if part is not None:
        # What does not repeat itself is refused, and simulated whole.
        with suppress(IrregularError):
            assert same(case, case.model, part)


def test_what_a_second_stream_brings_back_has_segments_of_its_own() -> None:
    case = workload(activation_offload=ActivationOffload.STREAMS)
    assert isinstance(case.model, Architecture)
    trace = simulated(case, case.model, (8, 0))
    back = {block for block, tag in enumerate(trace.tags) if tag[2] == RETURNED}
    assert back
    assert back <= trace.streams.keys()
