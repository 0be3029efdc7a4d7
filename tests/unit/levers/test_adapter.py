"""Which adapters are offered, in which order, and that each is leaner than what it replaces."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from memplan import profiles
from memplan.domain.adapting import Adapting
from memplan.domain.dtype import Dtype
from memplan.domain.plan import Option
from memplan.domain.workload import Adapter, Precision, Quantization, Workload
from memplan.estimate import estimate
from memplan.families import architecture
from memplan.fit.space import applied
from memplan.levers import adapter, sequence
from memplan.levers.compatible import compatible
from tests.planning import workload

LLAMA = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "vocab_size": 1000,
}
AMPERE, TURING = profiles.target("rtx3090"), profiles.target("t4")


def run(**config: object) -> Workload:
    return replace(workload(micro=1, length=256), model=architecture({**LLAMA, **config}, lambda _: None))


def lora(rank: int) -> Workload:
    return run().changed("adapter", Adapter(rank=rank))


def offered(what: Workload) -> list[tuple[int, bool, int]]:
    """Rank, whether weights are quantized, degree."""
    return [
        (option.changes["adapter"].rank, "quantization" in option.changes, option.degree)
        for option in adapter.options(what, AMPERE)
    ]


def test_full_training_becomes_lora_then_qlora_then_qlora_of_a_lower_rank() -> None:
    assert offered(run()) == [(16, False, 1), (16, True, 2), (8, True, 3)]


def test_a_lora_run_gets_4_bit_weights_before_a_lower_rank() -> None:
    assert sorted(offered(lora(64)), key=lambda entry: entry[2])[0] == (64, True, 1)
    assert offered(lora(64)) == [
        (32, False, 2),
        (16, False, 3),
        (8, False, 4),
        (64, True, 1),
        (32, True, 2),
        (16, True, 3),
        (8, True, 4),
    ]


def test_a_quantized_run_can_only_lower_its_rank() -> None:
    what = lora(32).changed("quantization", Quantization(kind="nf4"))
    assert offered(what) == [(16, False, 2), (8, False, 3)]


def test_weights_in_8_bits_may_become_4() -> None:
    what = lora(8).changed("quantization", Quantization(kind="int8"))
    (option,) = adapter.options(what, AMPERE)
    assert option.changes["quantization"].kind == "nf4"
    assert option.requires == ()


@pytest.mark.parametrize("what", [run(), lora(64)], ids=["full", "lora"])
def test_each_option_of_a_small_batch_needs_less_than_those_before_it_that_go_less_far(
    what: Workload,
) -> None:
    options = sorted(adapter.options(what, AMPERE), key=lambda option: (option.degree, leaner(option)))
    peaks = [estimate(applied(what, (option,)), AMPERE).device.peak_allocated for option in options]
    assert max(peaks) < estimate(what, AMPERE).device.peak_allocated
    assert peaks[-1] == min(peaks)


def leaner(option: Option) -> bool:
    return "quantization" in option.changes


def test_adapters_go_where_the_model_has_linear_layers() -> None:
    model = architecture({"model_type": "phi3"}, lambda _: None)
    for option in adapter.options(workload().changed("model", model), None):
        assert option.changes["adapter"].targets == ("o_proj", "qkv_proj", "gate_up_proj", "down_proj")


@pytest.mark.parametrize(
    "config",
    [
        {"vocab_size": 400_000},
        {"model_type": "t5"},
        {"quantization_config": {"quant_method": "mxfp4"}},
        {"model_type": "mixtral", "hidden_size": 256, "num_local_experts": 8},
    ],
    ids=["mostly embeddings", "t5", "published quantized", "mostly experts"],
)
def test_4_bits_are_not_offered_where_they_save_nothing_or_are_not_known(config: dict[str, object]) -> None:
    assert offered(run(**config)) == [(16, False, 1), (8, False, 2)]


@pytest.mark.parametrize("sharding", ["zero3", "fsdp1", "fsdp2"])
def test_sharded_weights_are_not_quantized(sharding: str) -> None:
    assert not any(bits for _, bits, _ in offered(run().changed("world.sharding", sharding)))


def test_an_adapter_that_is_no_lora_stays() -> None:
    assert adapter.options(run().changed("adapter", Adapter(kind="oft")), None) == ()


@pytest.mark.parametrize("half", [Dtype.FP16, Dtype.BF16])
def test_4_bit_weights_compute_in_what_the_run_computes_in(half: Dtype) -> None:
    what = replace(run(), precision=Precision(params=Dtype.FP32, autocast=half))
    computes = {
        option.changes["quantization"].compute
        for option in adapter.options(what, TURING)
        if "quantization" in option.changes
    }
    assert computes == {half}


def test_a_dtype_that_the_gpu_lacks_is_not_brought_in() -> None:
    plain = Adapter()
    habits = Adapting(
        plain=plain,
        params=Dtype.FP16,
        quantized=replace(plain, dtype=Dtype.BF16),
        quantization=Quantization(kind="nf4", compute=Dtype.FP16),
    )
    what = replace(run(), precision=Precision(params=Dtype.FP16), adapting=habits)
    assert len(adapter.options(what, AMPERE)) == 3
    assert [option.degree for option in adapter.options(what, TURING)] == [1]


def test_what_else_changes_with_adapters_is_the_frameworks_to_say() -> None:
    habits = Adapting(plain=Adapter(dropout=0.1), params=Dtype.BF16)
    what = replace(run(), precision=Precision(params=Dtype.FP32), adapting=habits)
    first, second = adapter.options(what, None)
    assert first.changes["precision.params"] is Dtype.BF16
    assert first.changes["adapter"].dropout == second.changes["adapter"].dropout == 0.1


def test_halvings_of_a_rank_end_at_8() -> None:
    assert adapter.ranks(64) == [32, 16, 8]
    assert adapter.ranks(12) == []
    assert all(more == 2 * less for more, less in pairwise(adapter.ranks(256)))


def test_pictures_are_not_cut() -> None:
    assert sequence.options(run(model_type="vit"), None) == ()


def test_a_sequence_cut_in_half_goes_as_far_as_every_change_of_adapters() -> None:
    furthest = max(option.degree for option in adapter.options(run(), AMPERE))
    first, second = sequence.options(run().changed("sequence.length", 1024), AMPERE)
    assert first.degree == furthest
    assert second.degree == 2 * furthest


def test_weights_that_a_plan_stores_in_4_bits_are_not_sharded_beside() -> None:
    plain, stored = Adapter(), Quantization(kind="nf4", double=True)
    habits = Adapting(plain=plain, params=Dtype.BF16, quantized=plain, quantization=stored)
    planned = replace(lora(8), adapting=habits, quantization=stored)
    assert compatible(planned.changed("world.sharding", "zero2"))
    assert not compatible(planned.changed("world.sharding", "zero3"))
    asked_for = replace(planned, adapting=None)
    assert compatible(asked_for.changed("world.sharding", "zero3"))
