"""What is not certain of the attention kernel that SDPA leads to, or should surprise nobody."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Gap
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Task, Workload
from memplan.simulator.kernels import choose, in_use, needs_mask

_CUDNN = (9, 10)
"""Generations that prefer cuDNN's attention (``check_prefer_cudnn_attention`` in sdp_utils.cpp)."""

_CUDNN_SINCE = (2, 10)


def kernel_gaps(workload: Workload, shape: Architecture, target: Target) -> Iterator[Gap]:
    """Fallbacks are said, though they are modelled; kernels that are counted as others have bytes."""
    if workload.attention is not Attention.SDPA:
        return
    kernels = in_use(shape, workload, target.compute_capability)
    if Attention.MATH in kernels:
        reason = f"on {target.name} sdpa falls back to the math kernel, which keeps all attention scores"
        yield Gap(reason=reason)
    if Attention.EAGER in kernels:
        reason = f"{shape.model_type} has no sdpa: eager attention runs, which keeps all attention scores"
        yield Gap(reason=reason)
    if workload.task is Task.TRAIN:
        yield from _grouped(workload, shape, target)
        yield from _cudnn(workload, shape, target, kernels)


def _grouped(workload: Workload, shape: Architecture, target: Target) -> Iterator[Gap]:
    """Since 2.14 the efficient kernel reads grouped heads as they are; what its backward takes is not known.

    Counted as if they were repeated, which is no less.
    """
    fewer = shape.num_attention_heads - shape.num_key_value_heads
    layers = [
        index
        for index in range(shape.num_hidden_layers)
        if choose(shape, workload, target.compute_capability, shape.layer_type(index)) is Attention.EFFICIENT
        and not needs_mask(shape, workload, shape.layer_type(index))
    ]
    if not fewer or not layers:
        return
    regions = workload.checkpointing.regions(shape.num_hidden_layers)
    again = {index for region in regions for index in region}
    largest = max((len(set(region).intersection(layers)) for region in regions), default=0)
    kept = len(set(layers) - again) + largest
    width = (workload.precision.autocast or workload.precision.params).itemsize
    low = 2 * kept * fewer * shape.head_dim * _tokens(workload) * width
    yield Gap(reason="grouped heads are counted as repeated for the efficient kernel", low=Bytes(low))


def _cudnn(
    workload: Workload, shape: Architecture, target: Target, kernels: frozenset[Attention]
) -> Iterator[Gap]:
    """It keeps what FlashAttention keeps; its workspace is counted as fp32 gradients of all heads."""
    old = workload.framework.torch_before(*_CUDNN_SINCE)
    if old or target.compute_capability[0] not in _CUDNN or kernels <= {Attention.EAGER, Attention.MATH}:
        return
    heads = shape.num_attention_heads * shape.head_dim * _tokens(workload)
    reason = f"on {target.name} PyTorch may run cuDNN's attention: counted as its own kernels"
    yield Gap(reason=reason, high=Bytes(heads * Dtype.FP32.itemsize))


def _tokens(workload: Workload) -> int:
    return workload.batch.micro * workload.sequence.length
