"""What a run asks of a GPU that the hardware has not got."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """One thing the GPU lacks: ``what``, since which compute capability there is any, and who asks for it.

    ``fields`` are the native paths that do, the most telling first.
    """

    what: str
    since: tuple[int, int]
    fields: tuple[str, ...]


BF16 = "bf16"
FLASH = "FlashAttention-2"
FP8 = "fp8"


def lacking(workload: Workload, target: Target) -> tuple[Lack, ...]:
    """What a workload asks for that the target's GPU has not got; nothing for declared models.

    bf16 began with Ampere (8.0), where FlashAttention-2 runs as well ("NVIDIA GPU features" in
    Dao-AILab/flash-attention README.md). Bytes that are only kept in bf16 need nothing of the hardware.
    """
    return tuple(_lacking(workload, target)) if isinstance(workload.model, Architecture) else ()


def _lacking(workload: Workload, target: Target) -> Iterator[Lack]:
    asked = [field for field, dtype in _computed(workload) if dtype is Dtype.BF16]
    if asked and not target.supports(Dtype.BF16):
        yield Lack(what=BF16, since=(8, 0), fields=(*asked, "precision.params"))
    if workload.attention is Attention.FLASH_ATTENTION_2 and not target.flash_attention_2:
        yield Lack(what=FLASH, since=(8, 0), fields=("attention",))


def _computed(workload: Workload) -> Iterator[tuple[str, Dtype | None]]:
    """The element types that products are made in, by the fields that say so."""
    yield "precision.autocast", workload.precision.autocast
    if workload.quantization is not None:
        yield "quantization.compute", workload.quantization.compute
    if workload.world.sharding.startswith("fsdp"):
        yield "world.param_dtype", workload.world.param_dtype
    if workload.adapter is not None:
        yield "adapter.dtype", workload.adapter.dtype
    yield "precision.params", workload.precision.params
