"""Weights in few bits: what stays on the GPU, what is unpacked when, and what k-bit preparation does."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.trace import Phase, Tag, Trace
from memplan.domain.workload import Adapter, Checkpointing, Precision, Quantization, Workload
from memplan.estimate import estimate
from tests.unit.simulator.runs import alive, at_end, at_start, peak, run, shape, workload

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
WIDTH, INNER, KEYS, LAYERS, TOKENS = 128, 256, 64, 2, 32
WEIGHTS = LAYERS * (2 * WIDTH * WIDTH + 2 * WIDTH * KEYS + 3 * WIDTH * INNER)
MATRICES = LAYERS * len(LINEARS)
VOCABULARY = 96
OTHERS = 2 * WIDTH * (2 * VOCABULARY + 2 * LAYERS + 1)
"""Bytes of embeddings, head and norms in bf16."""
NF4 = Quantization(kind="nf4")


def case(
    quantization: Quantization = NF4, *, prepared: bool = True, halved: bool = False, **settings: Any
) -> Workload:
    adapter = Adapter(rank=4, targets=("q_proj",), prepare_kbit=prepared, half_embeddings=halved)
    model = shape(hidden_size=WIDTH, intermediate_size=INNER, attention_bias=False)
    return workload(model, **({"adapter": adapter, "quantization": quantization} | settings))


def frozen_matrix(tag: Tag) -> bool:
    return tag[0] == "blocks" and tag[2] not in ("parameter",)


def made(trace: Trace, op: str) -> int:
    return sum(tag[2] == op for tag in trace.tags)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bits_and_a_scale_for_each_64_weights_stay(kind: str) -> None:
    left = at_end(run(case(Quantization(kind=kind))), frozen_matrix)
    assert left == WEIGHTS // 2 + 4 * WEIGHTS // 64 + 64 * MATRICES


def test_double_quantization_keeps_a_byte_for_each_scale() -> None:
    left = at_end(run(case(Quantization(kind="nf4", double=True))), frozen_matrix)
    second = sum(
        4 * -(-(outputs * inputs // 64) // 256)
        for outputs, inputs in [(WIDTH, WIDTH), (KEYS, WIDTH), (KEYS, WIDTH), (WIDTH, WIDTH)]
        + [(WIDTH, INNER)] * 3
    )
    assert left == WEIGHTS // 2 + WEIGHTS // 64 + LAYERS * second + (64 + 1024 + 4) * MATRICES


def test_eight_bits_keep_a_scale_for_each_row() -> None:
    rows = LAYERS * (2 * WIDTH + 2 * KEYS + 2 * INNER + WIDTH)
    assert at_end(run(case(Quantization(kind="int8"))), frozen_matrix) == WEIGHTS + 4 * rows


def test_a_weight_is_unpacked_in_forward_and_again_in_backward() -> None:
    """In backward it is not where no gradient reaches its input: the first layer's projections."""
    trace = run(case())
    assert made(trace, "dequantize_4bit") == 2 * MATRICES - 3
    assert not [tag for tag in map(trace.tags.__getitem__, alive(trace)) if tag[2] == "dequantize_4bit"]


def test_unpacked_weights_are_not_kept_for_backward() -> None:
    trace = run(case())
    assert at_start(trace, Phase.BACKWARD, lambda tag: tag[2] == "dequantize_4bit") == 0


def test_preparation_makes_everything_else_fp32() -> None:
    prepared, plain = run(case()), run(case(prepared=False))

    def others(tag: Tag) -> bool:
        return tag[2] == "parameter" and tag[0] != "adapter" and "inv_freq" not in tag[1]

    assert at_end(prepared, others) == 2 * at_end(plain, others)
    dtypes = {prepared.tags[block][4] for block in alive(prepared) if others(prepared.tags[block])}
    assert dtypes == {Dtype.FP32}


def test_embeddings_and_head_may_be_cast_back_and_norms_then_make_fp32_of_what_goes_through_them() -> None:
    autocast = Precision(params=Dtype.BF16, autocast=Dtype.BF16)
    prepared, halved = (run(case(halved=halved, precision=autocast)) for halved in (False, True))
    tags = [halved.tags[block] for block in alive(halved)]
    weights = {tag[1]: tag[4] for tag in tags if tag[2] == "parameter" and tag[0] != "adapter"}
    assert {weights.pop(name) for name in ("embed_tokens.weight", "lm_head.weight")} == {Dtype.BF16}
    assert {dtype for name, dtype in weights.items() if "norm" in name} == {Dtype.FP32}

    def gate(trace: Trace) -> set[Dtype]:
        return {tag[4] for tag in trace.tags if tag[1].endswith("mlp.gate_proj") and tag[2] == "to"}

    assert Dtype.FP32 in gate(halved)
    assert peak(halved, Phase.FORWARD, lambda _: True) < peak(prepared, Phase.FORWARD, lambda _: True)


def test_loading_holds_one_whole_weight_at_a_time() -> None:
    trace = run(case(prepared=False))
    assert peak(trace, Phase.LOAD, lambda tag: tag[2] == "loaded") == 2 * WIDTH * INNER


@pytest.mark.parametrize(
    ("release", "reserved"),
    [
        ("4.50", 0),
        ("4.51", WEIGHTS + OTHERS // 2),
        ("4.57", WEIGHTS + OTHERS // 2),
        ("5.0", WEIGHTS // 2 + OTHERS),
    ],
)
def test_what_is_taken_before_loading_depends_on_the_release(release: str, reserved: int) -> None:
    trace = run(case(framework=Framework(transformers=release)))
    assert sum(tag[3][0] for tag in trace.tags if tag[2] == "warmup") == reserved


@pytest.mark.parametrize(
    ("release", "readers", "threads"),
    [("4.57", None, 0), ("5.0", None, 4), ("5.3", None, 4), ("5.4", None, 0), ("5.3", 0, 0), ("5.4", 2, 2)],
)
def test_threads_read_ahead_in_some_releases_or_as_said_and_may_leave_more_cached(
    release: str, readers: int | None, threads: int
) -> None:
    quantization = Quantization(kind="nf4", readers=readers)
    this = case(quantization, prepared=False, framework=Framework(transformers=release))
    trace = run(this)
    made = [trace.tags[event][2] for event in trace.events if event >= 0]
    assert (made[: made.index("packed")].count("loaded") > 1) == (threads > 0)
    above = sum(gap.high for gap in estimate(this).device.gaps if gap.cached)
    assert above == max(0, threads - 1) * 2 * VOCABULARY * WIDTH


def test_reading_ahead_changes_the_order_of_loading_and_nothing_else() -> None:
    alone, ahead = (run(case(Quantization(kind="nf4", readers=readers))) for readers in (0, 4))
    assert sorted(alone.tags, key=str) == sorted(ahead.tags, key=str)
    assert peak(ahead, Phase.LOAD, lambda tag: tag[2] == "loaded") > 2 * WIDTH * INNER
    assert at_end(ahead, frozen_matrix) == at_end(alone, frozen_matrix)


def test_a_quantized_model_is_loaded_in_the_order_of_its_checkpoint() -> None:
    trace = run(case(prepared=False))
    order = [
        trace.tags[event]
        for event in trace.events
        if event >= 0 and trace.tags[event][2] in ("packed", "parameter")
    ]
    names = [tag[1] for tag in order]
    assert names[0] == "lm_head.weight"
    assert names[1] == "embed_tokens.weight"
    assert names[2:5] == [
        "layers.*.input_layernorm.weight",
        "layers.*.mlp.down_proj.weight",
        "layers.*.mlp.gate_proj.weight",
    ]


def test_checkpointing_does_not_free_what_eight_bit_layers_hold_beside_their_saved_tensors() -> None:
    every = Checkpointing(every=1)
    four = run(case(checkpointing=every))
    eight = run(case(Quantization(kind="int8"), checkpointing=every))
    inputs = LAYERS * 4 * TOKENS * (WIDTH + WIDTH + WIDTH + INNER)
    kept = [at_start(trace, Phase.BACKWARD, lambda tag: tag[0] == "activations") for trace in (four, eight)]
    assert kept[1] - kept[0] == pytest.approx(inputs, rel=0.35)
    assert kept[1] - kept[0] > inputs / 2


def test_only_outliers_are_left_uncertain() -> None:
    four, eight = (estimate(case(Quantization(kind=kind))).device.gaps for kind in ("nf4", "int8"))
    assert not [gap for gap in four if "weights" in gap.reason]
    assert [gap.reason for gap in eight if "int8" in gap.reason]
