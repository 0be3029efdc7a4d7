"""Training steps on several processes: what rank 0 allocates in the last one of each case, as JSON.

Run as a module of its own: torch is imported once, then one process a rank is forked off.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from memplan.domain.workload import Workload
from tests.oracle import cpu_step
from tests.oracle.cases import TINY
from tests.oracle.shard_cases import FLAT, SHARDED, sharded

torch = cpu_step.torch
FIRST_STEPS = {"none": 2, "fsdp1": 1, "fsdp2": 1}
"""Steps until they repeat: ``DistributedDataParallel`` rebuilds its buckets in the second."""


def events_of(workload: Workload, config: dict[str, Any]) -> dict[str, list[int]]:
    """Allocations and frees of this rank: in wrapping the model, and in an optimizer step."""
    torch.manual_seed(0)
    found = cpu_step.model(config, workload)
    models: list[Any] = []
    wrap = {"none": _ddp, "fsdp1": _fsdp1, "fsdp2": _fsdp2}[workload.world.sharding]
    # What earlier cases left behind goes before anything is recorded.
    gc.collect()
    wrapping = cpu_step.recorded(lambda: models.append(wrap(found, workload)))
    (wrapped,) = models
    optimizer = torch.optim.AdamW(
        [entry for entry in wrapped.parameters() if entry.requires_grad],
        foreach=workload.optimizer.implementation == "foreach",
    )
    for _ in range(FIRST_STEPS[workload.world.sharding]):
        _step(wrapped, optimizer, workload)
    return {"wrapping": wrapping, "step": cpu_step.recorded(lambda: _step(wrapped, optimizer, workload))}


def _ddp(found: Any, workload: Workload) -> Any:
    world = workload.world
    return torch.nn.parallel.DistributedDataParallel(
        found, bucket_cap_mb=world.bucket_cap_mb, gradient_as_bucket_view=world.gradient_as_bucket_view
    )


def _fsdp1(found: Any, workload: Workload) -> Any:
    """As accelerate wraps: every block, and every layer of an adapter (PEFT's ``fsdp_auto_wrap_policy``)."""
    from torch.distributed.fsdp import (
        BackwardPrefetch,
        FullyShardedDataParallel,
        MixedPrecision,
        ShardingStrategy,
    )
    from torch.distributed.fsdp.wrap import _or_policy, lambda_auto_wrap_policy, transformer_auto_wrap_policy

    world = workload.world
    base = found.base_model.model if workload.adapter else found
    policies = [partial(transformer_auto_wrap_policy, transformer_layer_cls={type(base.model.layers[0])})]
    if workload.adapter:
        policies.append(partial(lambda_auto_wrap_policy, lambda_fn=_trained_alone))
    prefetches = {"pre": BackwardPrefetch.BACKWARD_PRE, "post": BackwardPrefetch.BACKWARD_POST, "none": None}
    strategy = ShardingStrategy.FULL_SHARD if world.reshard_after_forward else ShardingStrategy.SHARD_GRAD_OP
    wrapped = FullyShardedDataParallel(
        found,
        auto_wrap_policy=partial(_or_policy, policies=policies),
        sharding_strategy=strategy,
        mixed_precision=MixedPrecision(
            param_dtype=cpu_step.DTYPES[world.param_dtype] if world.param_dtype else None,
            reduce_dtype=cpu_step.DTYPES[world.reduce_dtype] if world.reduce_dtype else None,
        ),
        forward_prefetch=world.forward_prefetch,
        backward_prefetch=prefetches[world.backward_prefetch],
        use_orig_params=world.use_orig_params,
        device_id=torch.device("cpu"),
    )
    if workload.framework.transformers_before(4, 52):
        _checkpointed_outside(base.model.layers)
    return wrapped


def _checkpointed_outside(layers: Any) -> None:
    """Checkpoint wrapped blocks, as transformers did before its blocks checkpointed themselves."""

    class Outside(torch.nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self, wrapped: Any) -> None:
            super().__init__()
            self.wrapped = wrapped

        def forward(self, hidden_states: Any, **others: Any) -> Any:
            run = partial(self.wrapped, **others)
            return torch.utils.checkpoint.checkpoint(run, hidden_states, use_reentrant=True)

    for place, layer in enumerate(layers):
        layer.module.gradient_checkpointing = False
        layers[place] = Outside(layer)


def _trained_alone(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return not list(module.children()) and weight is not None and weight.requires_grad


def _fsdp2(found: Any, workload: Workload) -> Any:
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    world = workload.world
    policy = MixedPrecisionPolicy(
        param_dtype=cpu_step.DTYPES[world.param_dtype] if world.param_dtype else None,
        reduce_dtype=cpu_step.DTYPES[world.reduce_dtype] if world.reduce_dtype else None,
        cast_forward_inputs=False,
    )
    base = found.base_model.model if workload.adapter else found
    for layer in base.model.layers:
        fully_shard(layer, mp_policy=policy, reshard_after_forward=world.reshard_after_forward)
    return fully_shard(found, mp_policy=policy)


def _step(wrapped: Any, optimizer: Any, workload: Workload) -> None:
    count = workload.batch.accumulation
    for index in range(count):
        inputs = cpu_step.words(workload)
        with _reducing(wrapped, workload, last=index == count - 1):
            with _computing(workload):
                loss = wrapped(**inputs).loss
            loss.backward()
        del loss
    if workload.optimizer.clipping and workload.world.sharding == "fsdp1":
        wrapped.clip_grad_norm_(1.0)
    elif workload.optimizer.clipping:
        torch.nn.utils.clip_grad_norm_(wrapped.parameters(), 1.0, foreach=True)
    optimizer.step()
    optimizer.zero_grad()


def _computing(workload: Workload) -> Any:
    dtype = workload.precision.autocast
    return torch.autocast("cpu", cpu_step.DTYPES[dtype]) if dtype else contextlib.nullcontext()


def _reducing(wrapped: Any, workload: Workload, *, last: bool) -> Any:
    if not workload.world.no_sync:
        return contextlib.nullcontext()
    if workload.world.sharding == "fsdp2":
        wrapped.set_requires_gradient_sync(last)
        return contextlib.nullcontext()
    return contextlib.nullcontext() if last else wrapped.no_sync()


def _alone(folder: str) -> None:
    """Rank 0 of cases whose collectives do nothing, so that nothing but the step allocates."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(_enabled=False)
    found = {}
    cases = {name: (config, sharded(config, settings)) for name, (config, settings) in FLAT.items()}
    for world in sorted({case.world.data_parallel for _, case in cases.values()}):
        torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
        for name, (config, case) in cases.items():
            if case.world.data_parallel == world:
                found[name] = events_of(case, TINY | config)
        torch.distributed.destroy_process_group()
    Path(folder, "alone.json").write_text(json.dumps(found), encoding="utf-8")


def _rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(_enabled=False)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store{world}", rank=rank, world_size=world
    )
    found = {}
    for name, (config, settings) in SHARDED.items():
        case = sharded(config, settings)
        if case.world.data_parallel == world:
            found[name] = events_of(case, TINY | config)
    if rank == 0:
        Path(folder, f"{world}.json").write_text(json.dumps(found), encoding="utf-8")
    torch.distributed.destroy_process_group()


def _fork(folder: str, *runs: Callable[[str], None]) -> None:
    children = []
    for run in runs:
        child = os.fork()
        if not child:
            code = 1
            try:
                run(folder)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        sys.exit("a rank failed")


def main() -> None:
    """Run the cases of every world, one after the other."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for world in sorted({sharded(*case).world.data_parallel for case in SHARDED.values()}):
            _fork(folder, *(partial(_rank, rank, world) for rank in range(world)))
            found |= json.loads(Path(folder, f"{world}.json").read_text(encoding="utf-8"))
        _fork(folder, _alone)
        found |= json.loads(Path(folder, "alone.json").read_text(encoding="utf-8"))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
