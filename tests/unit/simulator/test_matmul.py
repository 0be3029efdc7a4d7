from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Tag, Trace
from memplan.domain.workload import Adapter
from memplan.simulator import ops, shapes
from memplan.simulator.attention import repeat_kv
from memplan.simulator.blocks import Store
from memplan.simulator.matmul import linear, matmul
from memplan.simulator.tensor import Tape
from tests.unit.simulator.runs import AMP, AMPERE, run, shape, workload


def ops_of(tape: Tape) -> list[str]:
    return [tag[2] for tag in tape.trace.tags if tag[2] not in ("parameter", "workspace")]


def test_autocast_casts_a_trainable_weight_once_and_every_input_each_time() -> None:
    tape = Tape(AMPERE)
    weight = Store(tape, Dtype.FP32, trainable=True).parameter("weight", (4, 4))
    x = tape.empty((3, 4), Dtype.FP32, "x")
    tape.autocast = Dtype.BF16
    results = [linear(x, weight) for _ in range(3)]
    assert {y.dtype for y in results} == {Dtype.BF16}
    assert ops_of(tape).count("to") == 3 + 1
    assert len(tape.casts) == 1


def test_autocast_does_not_cache_casts_of_frozen_weights() -> None:
    tape = Tape(AMPERE)
    weight = Store(tape, Dtype.FP32, trainable=False).parameter("weight", (4, 4))
    x = tape.empty((3, 4), Dtype.BF16, "x")
    tape.autocast = Dtype.BF16
    linear(x, weight)
    linear(x, weight)
    assert ops_of(tape).count("to") == 2
    assert not tape.casts


def test_a_cast_for_autocast_is_not_needed_where_the_dtype_is_right() -> None:
    tape = Tape(AMPERE)
    weight = Store(tape, Dtype.BF16, trainable=True).parameter("weight", (4, 4))
    tape.autocast = Dtype.BF16
    linear(tape.empty((3, 4), Dtype.BF16, "x"), weight)
    assert "to" not in ops_of(tape)


def test_a_batched_product_copies_what_cannot_be_viewed_with_three_axes() -> None:
    tape = Tape(AMPERE)
    x = tape.empty((2, 5, 3, 4), Dtype.BF16, "x")
    heads = shapes.transpose(x, 1, 2)
    matmul(heads, shapes.transpose(heads, 2, 3))
    assert ops_of(tape) == ["x", "clone", "clone", "bmm"]


@pytest.mark.parametrize(("groups", "copies"), [(1, 0), (3, 1)])
def test_key_heads_are_repeated_by_copying_unless_each_has_one_query_head(groups: int, copies: int) -> None:
    tape = Tape(AMPERE)
    x = tape.empty((2, 4, 5, 8), Dtype.BF16, "x")
    assert repeat_kv(x, groups).shape == (2, 4 * groups, 5, 8)
    assert ops_of(tape).count("clone") == copies


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Dtype.BF16, Dtype.BF16, Dtype.BF16),
        (Dtype.BF16, Dtype.FP32, Dtype.FP32),
        (Dtype.FP16, Dtype.BF16, Dtype.FP32),
        (Dtype.FP64, Dtype.FP32, Dtype.FP64),
    ],
)
def test_mixed_operands_are_promoted(first: Dtype, second: Dtype, expected: Dtype) -> None:
    assert ops.promote(first, second) is ops.promote(second, first) is expected


def casts(trace: Trace, scope: str) -> list[Tag]:
    """Copies in fp32 made for a layer in the forward pass."""
    return [tag for tag in trace.tags if tag[1] == scope and tag[2] == "to" and tag[0] == "activations"]


def test_each_adapter_casts_its_input_to_fp32_and_its_result_back() -> None:
    trace = run(workload(shape(num_hidden_layers=1), adapter=Adapter(targets=("q_proj", "v_proj"))))
    for name in ("q_proj", "v_proj"):
        made = casts(trace, f"layers.*.self_attn.{name}")
        assert [tag[4] for tag in made] == [Dtype.FP32, Dtype.BF16]
    assert not casts(trace, "layers.*.self_attn.k_proj")


def test_an_adapter_in_the_models_own_dtype_casts_nothing() -> None:
    adapter = Adapter(targets=("q_proj",), dtype=Dtype.BF16)
    trace = run(workload(shape(num_hidden_layers=1), adapter=adapter))
    assert not casts(trace, "layers.*.self_attn.q_proj")


def test_dropout_of_an_adapter_keeps_a_mask_of_one_byte_for_each_element() -> None:
    settings = {"targets": ("q_proj",)}
    dropping = run(workload(shape(num_hidden_layers=1), adapter=Adapter(dropout=0.1, **settings)))  # type: ignore[arg-type]
    masks = [tag for tag in dropping.tags if tag[2] == "dropout_mask"]
    assert [(tag[3], tag[4]) for tag in masks] == [((2, 16, 32), Dtype.BOOL)]


def test_autocast_leaves_norms_and_the_residual_stream_in_fp32() -> None:
    trace = run(workload(shape(num_hidden_layers=1), precision=AMP))
    norm = {tag[4] for tag in trace.tags if tag[1] == "layers.*.input_layernorm" and tag[2] == "mul"}
    assert norm == {Dtype.FP32}
