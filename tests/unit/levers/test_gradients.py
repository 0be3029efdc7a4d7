"""The gradients lever: where fp32 sums may become bf16, and what that saves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan import profiles
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.workload import Adapter, Precision, Workload, World
from memplan.domain.zero import Zero
from memplan.estimate import estimate
from memplan.levers import gradients
from tests.planning import workload

HALF = replace(workload(micro=1, length=64), precision=Precision(params=Dtype.BF16))
WIDE = HALF.changed("precision.gradients", Dtype.FP32)
FSDP = HALF.changed(
    "world",
    World(data_parallel=4, sharding="fsdp2", param_dtype=Dtype.BF16, reduce_dtype=Dtype.FP32, no_sync=True),
)
ZERO = HALF.changed("world", World(data_parallel=4, sharding="zero3", zero=Zero(communication=Dtype.FP32)))


@pytest.mark.parametrize(
    ("what", "field"),
    [
        (WIDE, "precision.gradients"),
        (FSDP, "world.reduce_dtype"),
        (FSDP.changed("precision.params", Dtype.FP32), "world.reduce_dtype"),
        (ZERO, "world.zero.communication"),
    ],
)
def test_fp32_sums_of_bf16_gradients_take_less(what: Workload, field: str) -> None:
    (option,) = gradients.options(what, None)
    assert list(option.changes) == [field]
    assert option.harm is Harm.NUMERIC
    after = what.changed(field, option.changes[field])
    assert estimate(after).device.peak_allocated < estimate(what).device.peak_allocated
    assert gradients.options(after, None) == ()


@pytest.mark.parametrize(
    "what",
    [
        HALF,
        WIDE.changed("precision.params", Dtype.FP32),
        WIDE.changed("adapter", Adapter(dtype=Dtype.FP32)),
        FSDP.changed("world.param_dtype", Dtype.FP16),
        FSDP.changed("world.data_parallel", 1),
    ],
)
def test_gradients_that_were_made_in_fp32_stay_fp32(what: Workload) -> None:
    assert gradients.options(what, None) == ()


def test_a_gpu_without_bf16_gets_no_bf16() -> None:
    assert gradients.options(WIDE, profiles.target("gtx1650")) == ()
