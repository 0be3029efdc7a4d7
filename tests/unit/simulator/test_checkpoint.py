from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Adapter, Attention, Checkpointing
from memplan.simulator import ops
from memplan.simulator.autograd import backward
from memplan.simulator.blocks import Store
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Tape, Tensor
from tests.unit.simulator.runs import AMP, AMPERE, FP32, peak, run, shape, workload

DEEP = shape(num_hidden_layers=6)


def highest(every: int, **settings: Any) -> int:
    """The highest point outside the optimizer step."""
    found = run(workload(DEEP, checkpointing=Checkpointing(every=every), **settings))
    return max(peak(found, phase) for phase in (Phase.FORWARD, Phase.LOSS, Phase.BACKWARD))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"attention": Attention.EAGER},
        {"attention": Attention.MATH},
        {"attention": Attention.EFFICIENT, "causal_mask": True},
        {"precision": FP32},
        {"precision": AMP},
        {"adapter": Adapter(targets=("q_proj", "k_proj", "v_proj", "up_proj"))},
        {"adapter": Adapter(dropout=0.1), "precision": AMP},
    ],
)
def test_more_checkpointing_never_raises_the_peak(settings: dict[str, Any]) -> None:
    peaks = [highest(every, **settings) for every in (1, 2, 3, 0)]
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[-1]


def test_a_region_keeps_its_arguments_only_and_is_run_again() -> None:
    tape = Tape(AMPERE)
    store = Store(tape, Dtype.BF16, trainable=True)
    first, second = store.parameter("first", (8, 8)), store.parameter("second", (8, 8))
    runs = []

    def region(x: Tensor) -> Tensor:
        runs.append(tape.in_backward)
        return linear(ops.silu(linear(x, first)), second)

    x = tape.empty((4, 8), Dtype.BF16, "x")
    y = checkpoint(region, x)
    made = [tag[2] for tag in tape.trace.tags]
    loss = ops.mean_last(y)
    del y
    backward(loss)
    again = [tag[2] for tag in tape.trace.tags[len(made) :]]
    assert runs == [False, True]
    assert made[-3:] == ["linear", "silu", "linear"]
    # Recomputation stops when the last tensor is there: the second product is not made again.
    recomputed = [op for op in again if op in ("linear", "silu")]
    assert recomputed == ["linear", "silu"]
    assert all(leaf.grad is not None for leaf in store.leaves)


def test_without_gradients_a_region_is_just_run() -> None:
    tape = Tape(AMPERE)
    tape.grad_enabled = False
    x = tape.empty((4, 8), Dtype.BF16, "x")
    assert checkpoint(ops.silu, x).node is None


def test_the_gradients_are_those_of_the_run_without_checkpointing() -> None:
    def gradients(trace: Trace) -> list[tuple[str, tuple[int, ...], Dtype]]:
        return sorted((tag[1], tag[3], tag[4]) for tag in trace.tags if tag[0] == "gradients")

    plain, saving = (run(workload(checkpointing=Checkpointing(every=every))) for every in (0, 1))
    assert gradients(plain) == gradients(saving)


def test_the_input_of_the_first_region_gets_a_gradient_when_only_adapters_train() -> None:
    settings: dict[str, Any] = {"adapter": Adapter(targets=("v_proj",))}
    saving = run(workload(checkpointing=Checkpointing(every=1), **settings))
    plain = run(workload(**settings))
    assert [tag[0] for tag in saving.tags if tag[1] == "embed_tokens"] != []
    backward_of = [
        sum(tag[1] == "layers.*.input_layernorm" and tag[0] == "temporaries" for tag in trace.tags)
        for trace in (saving, plain)
    ]
    assert backward_of[0] > backward_of[1]
