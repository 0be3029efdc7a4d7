from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Adapter, Attention, Batch, Checkpointing, Outputs, Workload
from memplan.simulator import ops, shapes
from memplan.simulator.autograd import Leaf, backward, require_grad
from memplan.simulator.blocks import Store
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Parameter, Tape, Tensor
from tests.unit.simulator.runs import AMP, AMPERE, FP32, alive, builder, by_hand, described, run, workload

EAGER: dict[str, Any] = {"attention": Attention.EAGER}
CHECKPOINTED: dict[str, Any] = {"checkpointing": Checkpointing(every=1)}
RUNS: dict[str, Workload] = {
    "flash": workload(),
    "eager": workload(**EAGER),
    "math": workload(attention=Attention.MATH),
    "efficient": workload(attention=Attention.EFFICIENT),
    "fp32": workload(precision=FP32, **EAGER),
    "autocast": workload(precision=AMP),
    "checkpointed": workload(**CHECKPOINTED),
    "checkpointed autocast": workload(precision=AMP, **CHECKPOINTED),
    "lora": workload(adapter=Adapter()),
    "lora checkpointed": workload(adapter=Adapter(dropout=0.1), **CHECKPOINTED),
    "accumulated": workload(batch=Batch(micro=1, accumulation=2)),
    "outputs kept": workload(outputs=Outputs.KEPT, **EAGER),
}


@contextmanager
def without_collector() -> Iterator[None]:
    """The cyclic garbage collector is off."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def parameter(tape: Tape, *sides: int, dtype: Dtype = Dtype.BF16) -> tuple[Parameter, Leaf]:
    store = Store(tape, dtype, trainable=True)
    made = store.parameter("weight", sides)
    return made, store.leaves[0]


def scalar(x: Tensor) -> Tensor:
    """Something to run backward from: ``x`` reduced over its last axis until nothing is left."""
    while x.shape:
        x = shapes.view(ops.mean_last(x), x.shape[:-1])
    return x


@pytest.mark.parametrize("name", RUNS)
def test_no_block_is_freed_twice_and_only_what_rests_is_left(name: str) -> None:
    trace = run(RUNS[name])
    left = {trace.tags[block][0] for block in alive(trace)}
    assert left <= {"embeddings", "blocks", "decoder_matrix", "adapter", "optimizer_state", "workspace"}


@pytest.mark.parametrize("name", RUNS)
def test_memory_after_a_step_is_the_memory_after_loading_and_what_was_made_once(name: str) -> None:
    trace = run(RUNS[name])
    loaded = {block for block in trace.events[: trace.cycles[0]] if block >= 0}
    assert alive(trace) == loaded | trace.once


@pytest.mark.parametrize("name", RUNS)
def test_steps_from_the_second_on_are_alike(name: str) -> None:
    trace = by_hand(RUNS[name], 3)
    assert described(trace, 1) == described(trace, 2)


@pytest.mark.parametrize("name", RUNS)
def test_everything_dies_by_reference_counts_alone(name: str) -> None:
    with without_collector():
        tape = Tape(AMPERE)
        model = builder(RUNS[name])(tape)
        ids = [tape.empty((2, 16), Dtype.INT64, "ids") for _ in range(2)]
        tape.autocast = RUNS[name].precision.autocast
        loss, logits = model.loss(*ids)
        tape.autocast = None
        backward(loss)
        del model, loss, logits, ids
        tape.casts.clear()
        tape.workspaces.clear()
        assert alive(tape.trace) == set()


@pytest.mark.parametrize("name", RUNS)
def test_a_graph_that_is_never_run_backward_dies_by_reference_counts_too(name: str) -> None:
    with without_collector():
        tape = Tape(AMPERE)
        model = builder(RUNS[name])(tape)
        loss = model.loss(*[tape.empty((2, 16), Dtype.INT64, "ids") for _ in range(2)])
        del model, loss
        tape.workspaces.clear()
        assert alive(tape.trace) == set()


def test_a_saved_tensor_lives_until_its_node_ran() -> None:
    tape = Tape(AMPERE)
    weight, _ = parameter(tape, 4, 4)
    y = ops.silu(ops.mul_scalar(weight))
    made = {tape.trace.tags[block][2] for block in alive(tape.trace)}
    assert made == {"parameter", "mul", "silu"}
    loss = scalar(y)
    del y
    assert "mul" in {tape.trace.tags[block][2] for block in alive(tape.trace)}
    backward(loss)
    del loss
    left = [tape.trace.tags[block][2] for block in sorted(alive(tape.trace))]
    assert left == ["parameter", "grad"]


def test_without_gradients_nothing_is_kept() -> None:
    tape = Tape(AMPERE)
    tape.grad_enabled = False
    weight, _ = parameter(tape, 4, 4)
    y = ops.silu(ops.mul_scalar(weight))
    assert y.node is None
    assert [tape.trace.tags[block][2] for block in sorted(alive(tape.trace))] == ["parameter", "silu"]


def test_a_leaf_steals_a_gradient_that_nobody_else_holds() -> None:
    tape = Tape(AMPERE)
    weight, leaf = parameter(tape, 4, 4)
    backward(scalar(ops.silu(weight)))
    assert leaf.grad is not None
    assert tape.trace.tags[leaf.grad.storage.block][0] == "gradients"
    assert "clone" not in {tag[2] for tag in tape.trace.tags}


def test_a_leaf_copies_a_gradient_that_is_shared() -> None:
    tape = Tape(AMPERE)
    first, one = parameter(tape, 4, 4)
    second, two = parameter(tape, 4, 4)
    backward(scalar(ops.add(first, second)))
    assert one.grad is not None
    assert two.grad is not None
    assert one.grad.storage is not two.grad.storage


def test_later_gradients_are_added_in_place() -> None:
    tape = Tape(AMPERE)
    weight, leaf = parameter(tape, 4, 4)
    backward(scalar(ops.silu(weight)))
    held = leaf.grad
    before = alive(tape.trace)
    backward(scalar(ops.silu(weight)))
    assert leaf.grad is held
    assert alive(tape.trace) == before


def test_gradients_that_meet_are_added_in_place_when_nobody_holds_the_first() -> None:
    tape = Tape(AMPERE)
    weight, _ = parameter(tape, 4, 4)
    x = ops.mul_scalar(weight)
    loss = scalar(ops.mul(ops.silu(x), ops.neg(x)))
    del x
    start = len(tape.trace.events)
    backward(loss)
    made = [tape.trace.tags[event][2] for event in tape.trace.events[start:] if event >= 0]
    assert "add" not in made


def test_a_gradient_that_two_inputs_share_is_never_added_to_in_place() -> None:
    tape = Tape(AMPERE)
    weight, _ = parameter(tape, 4, 4)
    x = ops.mul_scalar(weight)
    loss = scalar(ops.add(x, ops.add(x, weight)))
    del x
    start = len(tape.trace.events)
    backward(loss)
    made = [tape.trace.tags[event][2] for event in tape.trace.events[start:] if event >= 0]
    assert "add" in made


def test_a_gradient_is_reduced_to_the_shape_and_cast_to_the_dtype_of_its_input() -> None:
    tape = Tape(AMPERE)
    scale, leaf = parameter(tape, 8)
    x = tape.empty((4, 8), Dtype.FP32, "x")
    backward(scalar(ops.mul(scale, x)))
    assert leaf.grad is not None
    assert (leaf.grad.shape, leaf.grad.dtype) == ((8,), Dtype.BF16)


def test_a_linear_layer_with_a_bias_gives_all_three_gradients() -> None:
    tape = Tape(AMPERE)
    store = Store(tape, Dtype.BF16, trainable=True)
    weight, bias = store.parameter("weight", (6, 4)), store.parameter("bias", (6,))
    x = require_grad(tape.empty((2, 3, 4), Dtype.BF16, "x"), "x")
    backward(scalar(linear(x, weight, bias)))
    grads = [leaf.grad for leaf in store.leaves]
    assert [grad.shape for grad in grads if grad is not None] == [(6, 4), (6,)]
    assert isinstance(x.node, Leaf)
    assert x.node.grad is not None
    assert x.node.grad.shape == (2, 3, 4)


def test_backward_of_something_that_needs_no_gradient_does_nothing() -> None:
    tape = Tape(AMPERE)
    x = tape.empty((), Dtype.FP32, "x")
    backward(x)
    assert tape.trace.events == [x.storage.block]
