"""Prediction against trace: the same allocator, the same components, two sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.domain.errors import InputError
from memplan.domain.framework import Framework
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.workload import Attention, Workload
from memplan.estimate import trace_of
from memplan.estimate.device import device
from memplan.smoke.trace import UNTRACEABLE, Traced, trace


def compare(workload: Workload, target: Target | None, framework: Framework) -> Comparison:
    """Simulate and trace a workload under the same releases, and measure both alike.

    Raises:
        InputError: the sizes of the model's tensors depend on data.
    """
    workload = replace(workload, framework=framework)
    capability = target.compute_capability if target else ASSUMED_CAPABILITY
    traced = _traced(workload, capability)
    return Comparison(
        device="fake",
        predicted=Measurement.of(device(workload, target, trace_of(workload, capability))),
        measured=Measurement.of(device(workload, target, traced.trace)),
        notes=tuple(_notes(workload, traced, capability)),
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
