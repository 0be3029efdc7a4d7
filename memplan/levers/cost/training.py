"""The time of one optimizer step, put together from its parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from memplan.domain.architecture import Architecture
from memplan.domain.checkpointing import Checkpointing
from memplan.domain.host import ActivationOffload
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
from memplan.levers.cost.sharding import EDGE, Passes, Spread, passes_seconds, spreads
from memplan.levers.cost.update import offloaded_seconds, own_dtype, update_seconds

EVALUATION_SHARE = 0.01
"""Tokens evaluated for each that is trained on. How often a run evaluates is its own affair: this share
decides between plans that are equal otherwise."""

LOADING_SHARE = 0.01
"""Share of a step spent waiting for data, divided by the batches made ahead: it, too, breaks ties."""


def seconds_per_token(workload: Workload, model: Architecture, rates: Rates) -> float:
    """Modelled seconds of a step per token that a GPU trains on.

    Two things are never credited, so that plans can be compared lever by lever. Sharding: a stage takes at
    least as long as those before it, though each GPU updates fewer parameters. And recomputation, if
    activations are offloaded: it takes at least as long as without, though there is less to copy.
    """
    facts = facts_of(model)
    wrapped = adapted(model, workload.adapter) if workload.adapter else None
    trained, tensors = (wrapped.trained, wrapped.tensors) if wrapped else (facts.parameters, facts.tensors)
    share = recomputed_share(workload.checkpointing, facts.depth)
    copying = workload.activation_offload is not ActivationOffload.NONE
    shares = (share, 0.0) if share and copying else (share,)
    variants = _passes(facts, workload, wrapped, trained, rates, shares)
    stored = facts.parameters * _stored(workload)
    step = 0.0
    whole = update_seconds(workload, trained, tensors, rates)
    for spread in spreads(workload.world.sharding, workload.world.data_parallel):
        update = _update(workload, whole, trained, rates, spread)
        for passes in variants:
            step = max(step, passes_seconds(workload, stored, trained, passes, rates, spread) + update)
    tokens = workload.batch.micro * workload.batch.accumulation * workload.sequence.length
    return step * (1 + _loading(workload)) / tokens + EVALUATION_SHARE * _evaluation(
        facts, workload, wrapped, rates
    )


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


def _passes(
    facts: Facts,
    workload: Workload,
    wrapped: Adapted | None,
    trained: int,
    rates: Rates,
    shares: tuple[float, ...],
) -> list[Passes]:
    """The passes of a micro-batch when such shares of the blocks are recomputed."""
    tokens = workload.batch.micro * workload.sequence.length
    blocks = _blocks(facts, workload, wrapped, workload.batch.micro, rates)
    full = wrapped is None
    head, head_backward = loss_seconds(facts, workload, tokens, rates, trained=full)
    gradients = blocks_gradients(facts, tokens, compute_dtype(workload), rates) if full else 0.0
    gaps = blocks.kernels * KERNEL_GAP
    gradient = (workload.precision.gradients or own_dtype(workload)).itemsize
    backward = blocks.backward + gradients + head_backward + 2 * gaps
    return [
        Passes(
            forward=blocks.forward + head + gaps,
            backward=share * (blocks.forward + gaps) + backward,
            copied=offloaded_bytes(facts, workload, tokens, share) / rates.host_link,
            waited=serial(workload),
            accumulating=3 * trained * gradient / rates.bandwidth,
        )
        for share in shares
    ]


@lru_cache(maxsize=1024)
def recomputed_share(checkpointing: Checkpointing, depth: int) -> float:
    """The share of blocks whose forward pass runs again (Korthikanti et al., arXiv:2205.05198, §5)."""
    return checkpointing.recomputed(depth) / depth if depth else 0.0


def _update(workload: Workload, whole: float, trained: int, rates: Rates, spread: Spread) -> float:
    """A GPU's share of the step; on the host it takes no less than on the GPU, whatever the GPU."""
    shards = spread.gpus if spread.stage else 1
    own = whole / shards
    if not spread.offloaded or workload.world.zero.optimizer is Place.GPU:
        return own
    return max(own, offloaded_seconds(workload, trained, rates, shards)) + EDGE * own


def _stored(workload: Workload) -> float:
    """Bytes of a parameter as it is gathered."""
    if workload.quantization is not None:
        return 1.0 if workload.quantization.kind == "int8" else 0.5
    return float((workload.world.param_dtype or workload.precision.params).itemsize)


def _loading(workload: Workload) -> float:
    """The share of a step that loading takes; batches that are not in page-locked memory are copied twice."""
    host = workload.host
    return LOADING_SHARE * (1 if host.pinned else 2) / (1 + host.workers * host.prefetch)


def _evaluation(facts: Facts, workload: Workload, wrapped: Adapted | None, rates: Rates) -> float:
    """Seconds per token of an evaluation's forward pass."""
    if workload.evaluation is None:
        return 0.0
    micro = workload.evaluation.batch or workload.batch.micro
    blocks = _blocks(facts, workload, wrapped, micro, rates)
    return (blocks.forward + blocks.kernels * KERNEL_GAP) / (micro * workload.sequence.length)
