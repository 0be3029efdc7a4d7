"""What is not simulated of DeepSpeed's ZeRO: named, with its bytes per GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Gap
from memplan.domain.workload import Task, Workload
from memplan.domain.zero import Place

PARAMETERS = ("embeddings", "decoder_matrix", "blocks")


def zero_gaps(workload: Workload, shape: Architecture, sizes: Mapping[str, int]) -> Iterator[Gap]:
    """Where DeepSpeed does something else than is simulated."""
    stage = workload.world.sharding
    if workload.task is not Task.TRAIN or not stage.startswith("zero"):
        return
    if stage == "zero3":
        yield from _sharded(workload, shape, sizes)
    else:
        yield from _flat(workload, shape, sizes)
    if not workload.world.zero.contiguous:
        reason = "contiguous_gradients: false is not simulated: gradients are counted in buckets"
        yield Gap(reason=reason, low=Bytes(sizes.get("communication", 0)), high=Bytes(sizes["gradients"]))


def _flat(workload: Workload, shape: Architecture, sizes: Mapping[str, int]) -> Iterator[Gap]:
    """At the peak of loading parameters are there twice, unless DeepSpeed finds too little room."""
    flat = sizes.get("flat_parameters", 0)
    if flat and sum(sizes.get(name, 0) for name in (*PARAMETERS, "adapter")) >= flat:
        reason = "with too little room for the parameters twice DeepSpeed flattens them on the host"
        yield Gap(reason=reason, low=Bytes(flat))
    precision = workload.precision
    exact = precision.gradients is Dtype.FP32 and precision.params.is_half
    if exact and workload.world.sharding == "zero1":
        held = 0 if workload.adapter is not None else shape.parameters * Dtype.FP32.itemsize
        reason = "ZeRO-1 with fp32 gradients runs another optimizer (BF16_Optimizer), which is not simulated"
        yield Gap(reason=reason, high=Bytes(held + sizes["gradients"]))


def _sharded(workload: Workload, shape: Architecture, sizes: Mapping[str, int]) -> Iterator[Gap]:
    whole = Bytes(sum(sizes.get(name, 0) for name in PARAMETERS))
    if shape.mixture is not None or not shape.causal:
        yield Gap(reason="ZeRO-3 gathers linear layers; other parameters are counted whole", low=whole)
    if workload.quantization is not None:
        reason = "ZeRO-3 of quantized weights is not simulated: they are counted whole"
        yield Gap(reason=reason, low=whole)
    if workload.world.zero.parameters is not Place.GPU:
        kept = Bytes(whole + sizes.get("flat_parameters", 0))
        yield Gap(reason="offloaded parameters are counted on the GPU", low=kept)
    if workload.adapter is not None:
        reason = "ZeRO-3 shards adapters larger than its persistence threshold; they are counted whole"
        yield Gap(reason=reason, low=Bytes(sizes["adapter"]))
