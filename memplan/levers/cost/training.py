"""The time of one optimizer step, put together from its parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from memplan.domain.architecture import Architecture
from memplan.domain.checkpointing import Checkpointing
from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.levers.cost.facts import Adapted, Facts, adapted, facts_of
from memplan.levers.cost.kernels import (
    BACKWARD,
    adapter_traffic,
    attention_seconds,
    compute_dtype,
    launches,
    traffic,
    weight_traffic,
)
from memplan.levers.cost.loss import loss_seconds
from memplan.levers.cost.offload import offloaded_bytes, serial
from memplan.levers.cost.products import blocks_gradients, blocks_once
from memplan.levers.cost.rates import KERNEL_GAP, Rates
from memplan.levers.cost.sharding import Passes, passes_seconds, stage_of
from memplan.levers.cost.update import offloaded_seconds, own_dtype, update_seconds

EVALUATION_SHARE = 0.01
"""Tokens evaluated for each that is trained on. How often a run evaluates is its own affair: this share
decides between plans that are equal otherwise."""

LOADING_SHARE = 0.01
"""Share of a step spent waiting for data, divided by the processes that load them: it, too, breaks ties."""


def seconds_per_token(workload: Workload, model: Architecture, rates: Rates) -> float:
    """Modelled seconds of a step per token that a GPU trains on.

    Sharding is never credited: a stage takes at least as long as the one before it, though each GPU updates
    fewer parameters. What that saves is small, and real stages lose more in other ways.
    """
    facts = facts_of(model)
    wrapped = adapted(model, workload.adapter) if workload.adapter else None
    trained, tensors = (wrapped.trained, wrapped.tensors) if wrapped else (facts.parameters, facts.tensors)
    passes = _passes(facts, workload, wrapped, trained, rates)
    stored = facts.parameters * _stored(workload)
    step = max(
        passes_seconds(workload, stored, trained, passes, rates, stage)
        + _update(workload, trained, tensors, rates, workload.world.data_parallel if stage else 1)
        for stage in range(stage_of(workload) + 1)
    )
    tokens = workload.batch.micro * workload.batch.accumulation * workload.sequence.length
    loading = 1 + LOADING_SHARE / (1 + workload.host.workers)
    return step * loading / tokens + EVALUATION_SHARE * _evaluation(facts, workload, wrapped, rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """Seconds of the blocks alone in one pass: forward and backward without weights' gradients and gaps."""

    forward: float
    backward: float
    kernels: float


def _blocks(facts: Facts, workload: Workload, wrapped: Adapted | None, micro: int, rates: Rates) -> _Blocks:
    length = workload.sequence.length
    tokens = micro * length
    once = blocks_once(facts, tokens, compute_dtype(workload), rates)
    attention, attention_backward = attention_seconds(facts, workload, tokens, length, rates)
    moved = tokens * traffic(facts, workload) / rates.bandwidth
    unpacked = weight_traffic(facts, workload) / rates.bandwidth
    low_rank, detour, detour_back = 0.0, 0.0, 0.0
    if wrapped is not None:
        low_rank = 2.0 * wrapped.low_rank / rates.of(workload.precision.autocast or own_dtype(workload))
        detour, detour_back = adapter_traffic(wrapped, workload)
    return _Blocks(
        forward=once + attention + moved + unpacked + tokens * (low_rank + detour / rates.bandwidth),
        backward=once
        + attention_backward
        + BACKWARD * moved
        + unpacked
        + tokens * (2 * low_rank + detour_back / rates.bandwidth),
        kernels=launches(facts, workload, wrapped),
    )


def _passes(facts: Facts, workload: Workload, wrapped: Adapted | None, trained: int, rates: Rates) -> Passes:
    tokens = workload.batch.micro * workload.sequence.length
    blocks = _blocks(facts, workload, wrapped, workload.batch.micro, rates)
    share = recomputed_share(workload.checkpointing, facts.depth)
    full = wrapped is None
    head, head_backward = loss_seconds(facts, workload, tokens, rates, trained=full)
    gradients = blocks_gradients(facts, tokens, compute_dtype(workload), rates) if full else 0.0
    gaps = blocks.kernels * KERNEL_GAP
    copies = offloaded_bytes(facts, workload, tokens, share) / rates.host_link
    waited = copies if serial(workload) else 0.0
    gradient = (workload.precision.gradients or own_dtype(workload)).itemsize
    return Passes(
        forward=blocks.forward + head + gaps + waited,
        backward=share * (blocks.forward + gaps)
        + blocks.backward
        + gradients
        + head_backward
        + 2 * gaps
        + waited,
        sent=copies - waited,
        fetched=copies - waited,
        accumulating=3 * trained * gradient / rates.bandwidth,
    )


@lru_cache(maxsize=1024)
def recomputed_share(checkpointing: Checkpointing, depth: int) -> float:
    """The share of blocks whose forward pass runs again (Korthikanti et al., arXiv:2205.05198, §5)."""
    return checkpointing.recomputed(depth) / depth if depth else 0.0


def _update(workload: Workload, trained: int, tensors: int, rates: Rates, shards: int) -> float:
    """On the host a step takes no less than on the GPU, whatever the GPU."""
    own = update_seconds(workload, trained, tensors, rates, shards)
    if workload.world.zero.optimizer is Place.GPU:
        return own
    return max(own, offloaded_seconds(workload, trained, rates, shards))


def _stored(workload: Workload) -> float:
    """Bytes of a parameter as it is gathered."""
    if workload.quantization is not None:
        return 1.0 if workload.quantization.kind == "int8" else 0.5
    return float((workload.world.param_dtype or workload.precision.params).itemsize)


def _evaluation(facts: Facts, workload: Workload, wrapped: Adapted | None, rates: Rates) -> float:
    """Seconds per token of an evaluation's forward pass."""
    if workload.evaluation is None:
        return 0.0
    micro = workload.evaluation.batch or workload.batch.micro
    blocks = _blocks(facts, workload, wrapped, micro, rates)
    return (blocks.forward + blocks.kernels * KERNEL_GAP) / (micro * workload.sequence.length)
