"""Gradients reduced, or kept, in the 16 bits that the products are made in, and not in fp32.

Of fp32 parameters gradients stay fp32: PyTorch's optimizers take no others beside fp32 states.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "gradients"
SUMMARY = "gradients in bf16 where they are fp32 and the parameters are not"
HARM = Harm.NUMERIC


def options(workload: Workload, target: Target | None) -> tuple[Option, ...]:
    """bf16 where gradients are summed over passes or GPUs in fp32, though they were made in bf16."""
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    if target is not None and not target.supports(Dtype.BF16):
        return ()
    return tuple(_options(workload))


def _options(workload: Workload) -> Iterator[Option]:
    world, precision = workload.world, workload.precision
    own = workload.adapter.dtype if workload.adapter is not None else precision.params
    if precision.gradients is Dtype.FP32 and own is Dtype.BF16:
        yield _option("precision.gradients", None, "gradients take the 16 bits of the parameters")
    elif world.sharding in ("fsdp1", "fsdp2") and world.data_parallel > 1:
        if world.reduce_dtype is Dtype.FP32 and (world.param_dtype or own) is Dtype.BF16:
            yield _option("world.reduce_dtype", Dtype.BF16, "gradients are summed over the GPUs in bf16")
    elif world.sharding.startswith("zero") and world.zero.communication is Dtype.FP32 and own is Dtype.BF16:
        reason = "gradients travel in the 16 bits of the parameters"
        yield _option("world.zero.communication", Dtype.BF16, reason)


def _option(field: str, value: Dtype | None, reason: str) -> Option:
    return Option(changes={field: value}, harm=HARM, reason=reason, degree=1)
