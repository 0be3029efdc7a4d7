"""FSDP1 as accelerate sets it up, which the Trainer and all that build on it leave it to.

Source: ``FullyShardedDataParallelPlugin`` in src/accelerate/utils/dataclasses.py and ``prepare_model`` in
src/accelerate/accelerator.py; ``_process_fsdp_args`` in transformers src/transformers/training_args.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import truth
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload, World

PREFETCHES = {"backward_pre": "pre", "1": "pre", "backward_post": "post", "2": "post"}
"""When backward gathers ahead, as accelerate spells it; otherwise it does not."""


def flat(world: World, get: Callable[[str], Value | None]) -> World:
    """FSDP1's settings among those that ``get`` finds by name; any other world as it is."""
    if world.sharding != "fsdp1":
        return world
    ahead, next_one, original = get("backward_prefetch"), get("forward_prefetch"), get("use_orig_params")
    return replace(
        world,
        backward_prefetch=PREFETCHES.get(ahead.written().lower(), "none") if ahead is not None else "none",
        forward_prefetch=next_one is not None and truth(next_one),
        use_orig_params=original is None or truth(original),
    )


def upcast(run: Workload) -> Workload:
    """The run under FSDP1: with mixed precision, what trains is kept in fp32 and gathered in that dtype.

    Autocast stays on.
    """
    dtype, adapter = run.precision.autocast, run.adapter
    if run.world.sharding != "fsdp1" or dtype is None:
        return run
    params = Dtype.FP32 if adapter is None else run.precision.params
    return replace(
        run,
        precision=replace(run.precision, params=params),
        adapter=None if adapter is None else replace(adapter, dtype=Dtype.FP32),
        world=replace(run.world, param_dtype=dtype, reduce_dtype=dtype),
    )
