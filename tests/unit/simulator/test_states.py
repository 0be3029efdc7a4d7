"""What optimizers other than AdamW keep, clipping, masters, and the dtypes of gradients and states."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Optimizer, Precision, Workload
from memplan.estimate import estimate
from memplan.simulator.autograd import Leaf
from memplan.simulator.optimizer import Stepper
from memplan.simulator.tensor import Parameter, Tape
from tests.unit.simulator.runs import BF16, alive, at_end, peak, run, workload


def states(tag: Tag) -> bool:
    return tag[0] == "optimizer_state"


def case(precision: Precision = BF16, **optimizer: Any) -> Workload:
    return workload(optimizer=Optimizer(**optimizer), precision=precision)


def stepped(
    optimizer: Optimizer, *shapes: tuple[int, ...], name: str = "layers.*.w"
) -> tuple[Trace, Stepper]:
    """One step over bf16 parameters of some shapes."""
    tape = Tape((8, 0))
    leaves = [Leaf(Parameter(tape, shape, Dtype.BF16, "blocks", name), name) for shape in shapes]
    for leaf in leaves:
        leaf.grad = tape.empty(leaf.shape, Dtype.BF16, "grad")
    stepper = Stepper(tape, optimizer, leaves)
    tape.trace.enter(Phase.OPTIMIZER)
    stepper.step()
    return tape.trace.closed(), stepper


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("adamw_8bit", 2 * 8192 + 2 * 4 * 32 + 2 * 1024),
        ("lion_8bit", 8192 + 4 * 32 + 1024),
        ("lion", 4 * 8192),
        ("paged_adamw_32bit", 8 * 8192),
    ],
)
def test_states_of_bitsandbytes(name: str, size: int) -> None:
    """A byte a state and an fp32 scale for each 256, with one table of 256 values for each kind of state."""
    trace, stepper = stepped(Optimizer(name=name), (128, 64))
    assert at_end(trace, states) == size
    assert stepper.states.paged == 0


def test_small_tensors_keep_states_in_fp32() -> None:
    trace, _ = stepped(Optimizer(name="adamw_8bit"), (4095,))
    assert at_end(trace, states) == 8 * 4095


def test_large_states_of_paged_optimizers_are_not_in_device_memory() -> None:
    trace, stepper = stepped(Optimizer(name="paged_adamw_8bit"), (1000, 100), (999, 100))
    assert stepper.states.paged == 2 * 100_000
    scales = 2 * 4 * (-(-100_000 // 256) + -(-99_900 // 256))
    assert at_end(trace, states) == 2 * 99_900 + scales + 2 * 1024


def test_adafactor_keeps_a_row_a_column_and_a_scalar_of_a_matrix() -> None:
    trace, _ = stepped(Optimizer(name="adafactor"), (128, 64), (32,))
    assert at_end(trace, states) == 4 * (128 + 64 + 1) + 4 * (32 + 1)


def test_muon_leaves_embeddings_to_adamw() -> None:
    hidden, _ = stepped(Optimizer(name="muon"), (128, 64))
    table, _ = stepped(Optimizer(name="muon"), (128, 64), name="embed_tokens.weight")
    assert at_end(hidden, states) == 2 * 128 * 64
    assert at_end(table, states) == 4 * 128 * 64


def test_momentum_costs_one_state() -> None:
    plain, heavy = run(case(name="sgd")), run(case(name="sgd", momentum=0.9))
    parameters = at_end(plain, lambda tag: tag[2] == "parameter" and "inv_freq" not in tag[1])
    assert at_end(plain, states) == 0
    assert at_end(heavy, states) == parameters


def test_clipping_sums_each_chunk_of_each_gradient_as_often_as_the_largest_needs() -> None:
    trace, _ = stepped(Optimizer(name="sgd", clipping=True), (65_537,), (10,))
    sizes = {tag[2]: prod(tag[3]) for tag in trace.tags}
    assert sizes["partial_norms"] == 2 * 2
    assert sizes["norms"] == sizes["stack"] == 2


def test_masters_are_copies_that_the_optimizer_works_on() -> None:
    """bf16 parameters and gradients, fp32 masters and states, and fp32 gradients during the step."""
    precision = Precision(params=Dtype.BF16, master=Dtype.FP32)
    trace = run(case(precision))
    count = at_end(run(case()), states) // 4
    assert at_end(trace, states) == 12 * count
    step = peak(trace, Phase.OPTIMIZER, lambda tag: tag[1] == "optimizer" or tag[0] == "gradients")
    assert step == (2 + 4 + 4) * count
    assert {trace.tags[block][4] for block in alive(trace) if states(trace.tags[block])} == {Dtype.FP32}


def test_fp32_parameters_are_their_own_masters() -> None:
    plain, with_masters = (
        run(case(Precision(params=Dtype.FP32, master=master))) for master in (None, Dtype.FP32)
    )
    assert plain.sizes == with_masters.sizes


def test_gradients_and_states_follow_the_dtypes_asked_for() -> None:
    plain = run(case())
    wide = run(case(Precision(gradients=Dtype.FP32, optimizer_state=Dtype.FP32)))

    def gradients(tag: Tag) -> bool:
        return tag[0] == "gradients"

    assert at_end(wide, states) == 2 * at_end(plain, states)
    assert peak(wide, Phase.OPTIMIZER, gradients) == 2 * peak(plain, Phase.OPTIMIZER, gradients)


@pytest.mark.parametrize("name", ["sgd", "lion", "muon", "adafactor", "adamw_8bit", "paged_lion_8bit"])
def test_no_gap_is_named_for_a_simulated_optimizer(name: str) -> None:
    assert not [gap for gap in estimate(case(name=name)).device.gaps if "optimizer" in gap.reason]


def test_a_gap_is_named_for_any_other() -> None:
    reasons = [gap.reason for gap in estimate(case(name="came_pytorch")).device.gaps]
    assert any("came_pytorch is not simulated" in reason for reason in reasons)
