"""How a real model is spread over ranks, as the frameworks do it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.smoke.cuda import TORCH

Reducing = Callable[[bool], AbstractContextManager[object]]
"""Around a micro-batch, told whether it is the last one of its step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The module that is called in the model's place, and what goes around its micro-batches.

    ``kept`` says how many bytes it holds between steps, beside parameters, gradients and states.
    """

    module: Any
    reducing: Reducing
    kept: Callable[[], int]


def spread(model: Any, workload: Workload) -> Spread:
    """Spread a model over the ranks of the process group."""
    return _SPREADS[workload.world.sharding](model, workload)


def ddp(model: Any, workload: Workload) -> Spread:
    """``DistributedDataParallel``: a whole model each, gradients are averaged."""
    world = workload.world
    wrapped = torch.nn.parallel.DistributedDataParallel(
        model, bucket_cap_mb=world.bucket_cap_mb, gradient_as_bucket_view=world.gradient_as_bucket_view
    )

    def reducing(last: bool) -> AbstractContextManager[object]:
        apart: AbstractContextManager[object] = wrapped.no_sync()
        return nullcontext() if last or not world.no_sync else apart

    def buckets() -> int:
        if world.gradient_as_bucket_view and not workload.optimizer.set_to_none:
            # They are the gradients.
            return 0
        # Cut anew after the first step, they are as large together as before.
        return sum(map(int, wrapped._get_ddp_logging_data()["bucket_sizes"].split(",")))

    return Spread(module=wrapped, reducing=reducing, kept=buckets)


def fsdp2(model: Any, workload: Workload) -> Spread:
    """``fully_shard`` on every block, then on the model (accelerate's ``fsdp2_prepare_model``)."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    world = workload.world
    policy = MixedPrecisionPolicy(
        param_dtype=_torch(world.param_dtype),
        reduce_dtype=_torch(world.reduce_dtype),
        cast_forward_inputs=False,
    )
    for block in blocks(model):
        fully_shard(block, mp_policy=policy, reshard_after_forward=world.reshard_after_forward)
    fully_shard(model, mp_policy=policy)

    def reducing(last: bool) -> AbstractContextManager[object]:
        model.set_requires_gradient_sync(last or not world.no_sync)
        return nullcontext()

    return Spread(module=model, reducing=reducing, kept=lambda: 0)


def blocks(model: Any) -> Iterator[Any]:
    """The modules that transformers says are not to be split: a model's blocks."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(inner._no_split_modules or ())
    return (module for module in list(inner.modules()) if type(module).__name__ in names)


def _torch(dtype: Dtype | None) -> Any:
    return None if dtype is None else TORCH[dtype]


_SPREADS: dict[str, Callable[[Any, Workload], Spread]] = {"none": ddp, "fsdp2": fsdp2}
