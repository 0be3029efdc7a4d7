"""What is predicted for all ranks adds up to what one GPU would hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.dtype import Dtype
from memplan.domain.ranks import Holdings
from memplan.domain.workload import Attention, Optimizer, Precision, Sequence, Workload, World
from memplan.estimate import trace_of
from memplan.families import architecture
from memplan.simulator.kernels import HOST

predicted = pytest.importorskip("memplan.smoke.ranks.predicted", reason="torch is not installed")


def workload(words: int, optimizer: Optimizer | None = None, **world: object) -> Workload:
    config = {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": words,
    }
    return Workload(
        model=architecture(config, lambda _: None),
        precision=Precision(params=Dtype.FP32),
        sequence=Sequence(length=8),
        attention=Attention.EAGER,
        optimizer=optimizer or Optimizer(),
        world=World(**world),  # type: ignore[arg-type]
    )


def ranks(run: Workload) -> tuple[Holdings, ...]:
    return tuple(predicted.holdings(run, trace_of(run, HOST)))


@given(words=st.integers(16, 200), count=st.integers(2, 7))
@settings(max_examples=15, deadline=None)
def test_states_of_fsdp2_add_up_to_those_of_one_gpu(words: int, count: int) -> None:
    (alone,) = ranks(workload(words))
    shared = ranks(workload(words, data_parallel=count, sharding="fsdp2"))
    assert sum(rank.optimizer_state for rank in shared) == alone.optimizer_state
    assert max(shared, key=lambda rank: rank.peak_allocated) == shared[0]


@given(words=st.integers(16, 200), count=st.integers(2, 7))
@settings(max_examples=10, deadline=None)
def test_every_rank_of_ddp_holds_as_much_as_one_gpu(words: int, count: int) -> None:
    (alone,) = ranks(workload(words))
    first, *others = ranks(workload(words, data_parallel=count))
    assert all(other == first for other in others)
    assert (first.parameters, first.gradients, first.optimizer_state) == (
        alone.parameters,
        alone.gradients,
        alone.optimizer_state,
    )


@pytest.mark.parametrize("sharding", ["zero1", "zero2"])
def test_gradients_that_zero_keeps_whole_cover_the_model(sharding: str) -> None:
    run = workload(100, data_parallel=3, sharding=sharding)
    (alone,) = ranks(workload(100))
    shared = ranks(run)
    assert sum(rank.gradients for rank in shared) >= alone.gradients
    assert len({rank.optimizer_state for rank in shared}) == 1


def test_counters_are_no_states_wherever_they_are_kept() -> None:
    plain, fused = (
        ranks(workload(100, Optimizer(implementation=kind), data_parallel=2)) for kind in ("foreach", "fused")
    )
    assert [rank.optimizer_state for rank in plain] == [rank.optimizer_state for rank in fused]
