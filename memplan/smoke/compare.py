"""Prediction against trace: the same allocator, the same components, two sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.workload import Attention, Framework, Workload
from memplan.estimate import trace_of
from memplan.estimate.device import device
from memplan.smoke.trace import Traced, trace


def compare(workload: Workload, target: Target | None, framework: Framework) -> Comparison:
    """Simulate and trace a workload under the same releases, and measure both alike."""
    workload = replace(workload, framework=framework)
    capability = target.compute_capability if target else ASSUMED_CAPABILITY
    traced = trace(workload, capability)
    return Comparison(
        device="fake",
        predicted=Measurement.of(device(workload, target, trace_of(workload, capability))),
        measured=Measurement.of(device(workload, target, traced.trace)),
        notes=tuple(_notes(workload, traced, capability)),
    )


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
