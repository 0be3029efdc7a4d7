"""Prediction against trace: the same allocator, the same components, two sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.domain.errors import InputError
from memplan.domain.framework import Framework
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.workload import Attention, Task, Workload
from memplan.estimate import trace_of
from memplan.estimate.device import device
from memplan.smoke.trace import UNTRACEABLE, Traced, trace

MOST_TOKENS = 16
"""New tokens that are traced: each takes the real classes' code through all layers, which takes time."""


def compare(workload: Workload, target: Target | None, framework: Framework) -> Comparison:
    """Simulate and trace a workload under the same releases, and measure both alike.

    Raises:
        InputError: the sizes of the model's tensors depend on data.
    """
    asked = workload.generate.new_tokens
    workload = _shorter(replace(workload, framework=framework))
    capability = target.compute_capability if target else ASSUMED_CAPABILITY
    traced = _traced(workload, capability)
    return Comparison(
        device="fake",
        predicted=Measurement.of(device(workload, target, trace_of(workload, capability))),
        measured=Measurement.of(device(workload, target, traced.trace)),
        notes=(*_notes(workload, traced, capability), *_left_out(workload, asked)),
    )


def _shorter(workload: Workload) -> Workload:
    """With no more new tokens than are traced."""
    asked = workload.generate
    return replace(workload, generate=replace(asked, new_tokens=min(asked.new_tokens, MOST_TOKENS)))


def _left_out(workload: Workload, asked: int) -> Iterator[str]:
    traced = workload.generate.new_tokens
    if workload.task is Task.GENERATE and traced < asked:
        yield (
            f"the first {traced} of {asked} new tokens, predicted and traced: each one that follows is like"
            " the one before, with one more in the cache"
        )


def _traced(workload: Workload, capability: tuple[int, int]) -> Traced:
    """The trace, or what kept it from being made."""
    try:
        return trace(workload, capability)
    except UNTRACEABLE as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"this model cannot be traced: the sizes of its tensors depend on data ({said})"
        ) from error


def _notes(workload: Workload, traced: Traced, capability: tuple[int, int]) -> Iterator[str]:
    releases = workload.framework
    yield (
        f"traced with torch {releases.torch} and transformers {releases.transformers},"
        f" for compute capability {capability[0]}.{capability[1]}"
    )
    if traced.reads:
        count = sum(traced.reads.values())
        padding = "with" if workload.causal_mask else "without"
        times = "time" if count == 1 else "times"
        yield f"asked for values {count} {times}; answered as for a batch {padding} padding"
    if workload.attention is Attention.FLASH_ATTENTION_2:
        yield "FlashAttention-2 is PyTorch's own, not the flash_attn package"
