"""The optimizer lever: the same optimizer in less memory, and what each variant does to the numbers."""

from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.workload import Adapter, Optimizer, Workload, World
from memplan.estimate import estimate
from memplan.levers import optimizer, set_to_none
from tests.planning import workload


def trained(name: str, implementation: str = "for_loop", params: Dtype = Dtype.FP32) -> Workload:
    what = workload().changed("optimizer", Optimizer(name=name, implementation=implementation))
    return what.changed("precision.params", params)


def offered(what: Workload) -> list[tuple[str, Harm]]:
    found = []
    for option in optimizer.options(what, None):
        after = what
        for field, value in option.changes.items():
            after = after.changed(field, value)
        name, implementation = after.optimizer.name, after.optimizer.implementation
        found.append((f"{name} {implementation}", option.harm))
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "adamw",
            [
                ("adamw fused", Harm.EXACT),
                ("adamw_8bit for_loop", Harm.NUMERIC),
                ("paged_adamw_8bit for_loop", Harm.NUMERIC),
                ("paged_adamw_32bit for_loop", Harm.EXACT),
            ],
        ),
        ("adamw_8bit", [("paged_adamw_8bit for_loop", Harm.EXACT)]),
        ("paged_adamw_8bit", []),
        (
            "lion",
            [
                ("lion_8bit for_loop", Harm.NUMERIC),
                ("paged_lion_8bit for_loop", Harm.NUMERIC),
                ("paged_lion_32bit for_loop", Harm.EXACT),
            ],
        ),
        ("sgd", []),
        ("adafactor", []),
        ("adam", [("adam fused", Harm.EXACT)]),
    ],
)
def test_an_optimizer_stays_the_one_it_is(name: str, expected: list[tuple[str, Harm]]) -> None:
    assert offered(trained(name)) == expected


def test_foreach_becomes_fused_first() -> None:
    assert offered(trained("adamw", "foreach"))[0] == ("adamw fused", Harm.EXACT)
    assert offered(trained("adam", "foreach")) == [("adam fused", Harm.EXACT)]
    assert "adamw fused" not in dict(offered(trained("adamw", "fused")))


def test_before_pytorch_2_the_plain_loop_takes_its_place() -> None:
    old = trained("adam", "foreach").changed("framework.torch", "1.13")
    assert offered(old) == [("adam for_loop", Harm.EXACT)]


def test_paged_states_are_exact_only_where_they_were_fp32() -> None:
    half = trained("adamw", "fused", Dtype.BF16)
    assert offered(half)[-1] == ("paged_adamw_32bit for_loop", Harm.NUMERIC)
    assert offered(half.changed("adapter", Adapter()))[-1] == ("paged_adamw_32bit for_loop", Harm.EXACT)
    wide = half.changed("precision.optimizer_state", Dtype.FP32)
    assert offered(wide)[-1] == ("paged_adamw_32bit for_loop", Harm.EXACT)


@pytest.mark.parametrize(
    "what",
    [
        trained("adamw", "fused").changed("world", World(data_parallel=2, sharding="fsdp2")),
        trained("adamw", "fused").changed("world", World(data_parallel=2, sharding="zero2")),
        trained("adamw", "fused", Dtype.BF16).changed("precision.master", Dtype.FP32),
    ],
)
def test_sharded_parameters_and_copies_are_not_given_to_bitsandbytes(what: Workload) -> None:
    assert offered(what) == []


def test_on_several_gpus_only_paged_states_are_offered() -> None:
    several = trained("adamw", "fused").changed("world", World(data_parallel=2))
    assert [name.split("_")[0] for name, _ in offered(several)] == ["paged", "paged"]


def test_bitsandbytes_is_a_new_package_unless_it_runs_already() -> None:
    fused = trained("adamw", "fused")
    assert {option.requires for option in optimizer.options(fused, None)} == {("bitsandbytes",)}
    assert {option.requires for option in optimizer.options(trained("adamw_8bit"), None)} == {()}


@pytest.mark.parametrize("name", ["adamw", "lion", "adamw_8bit"])
def test_every_variant_takes_less_memory_of_the_gpu(name: str) -> None:
    what = trained(name, "foreach" if name == "adamw" else "for_loop")
    what = what.changed("batch.micro", 1).changed("sequence.length", 8)
    before = estimate(what).device.peak_allocated
    for option in optimizer.options(what, None):
        after = what
        for field, value in option.changes.items():
            after = after.changed(field, value)
        assert estimate(after).device.peak_allocated < before


def test_gradients_are_let_go_where_they_were_kept_as_zeros() -> None:
    kept = workload(accumulation=1).changed("optimizer.set_to_none", False)
    (option,) = set_to_none.options(kept, None)
    assert option.harm is Harm.EXACT
    after = kept.changed("optimizer.set_to_none", True)
    assert estimate(after).device.peak_allocated < estimate(kept).device.peak_allocated
    assert set_to_none.options(after, None) == ()
