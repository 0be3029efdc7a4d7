"""Which attention kernel runs: PyTorch's and transformers' rules for ``scaled_dot_product_attention``."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Task, Workload
from memplan.simulator.tensor import Tensor

_WIDEST_FLASH_HEAD = 256


def needs_mask(shape: Architecture, workload: Workload, layer_type: str | None = None) -> bool:
    """Whether transformers materialises a causal mask for SDPA in layers of a type (default: the first's).

    With padding it must; with a sliding window it must as soon as the window does not cover the sequence
    (``_ignore_causal_mask_sdpa`` in transformers src/transformers/masking_utils.py). Releases from 4.54 to
    4.57 did so for every training batch that came without a padding mask
    (``find_packed_sequence_indices``, which returns ``None`` for unpacked batches only since 5.0).
    """
    sliding = (layer_type or shape.layer_type(0)) == "sliding_attention"
    window = shape.sliding_window if sliding else None
    covered = window is None or workload.sequence.length < window
    return shape.masked or workload.causal_mask or not covered or _always_masked(workload)


def _always_masked(workload: Workload) -> bool:
    framework = workload.framework
    old = framework.transformers_before(5, 0) and not framework.transformers_before(4, 54)
    return old and workload.task is Task.TRAIN


def choose(
    shape: Architecture, workload: Workload, capability: tuple[int, int], layer_type: str | None = None
) -> Attention:
    """The kernel that ``sdpa`` leads to in layers of a type (default: the first's) on a GPU.

    Other choices of attention stand as they are. Flash takes half inputs without a mask on sm_80 and newer,
    with heads of one width (``check_head_dim_size_flash``; latent attention's values are narrower).
    The efficient kernel takes masks, and fp16 or fp32 from sm_50 (bf16 from sm_80), but no grouped heads:
    without a mask transformers leaves the grouping to PyTorch, which then falls back to the math kernel
    (``use_gqa_in_sdpa`` in transformers; ``can_use_flash_attention`` and ``can_use_mem_efficient_attention``
    in sdp_utils.cpp). While generating, masks come and go: ``SDPA`` stands, each call decides for itself.
    A model that caps its scores or has sinks has no SDPA: unless told otherwise it runs eager
    attention (``_supports_sdpa`` in transformers src/transformers/models/gemma2/modeling_gemma2.py).
    """
    if workload.attention is not Attention.SDPA:
        return workload.attention
    if shape.attention_softcap or shape.sinks:
        return Attention.EAGER
    if workload.task is Task.GENERATE:
        return Attention.SDPA
    masked = needs_mask(shape, workload, layer_type)
    dtype = workload.precision.autocast or workload.precision.params
    recent = capability >= (8, 0)
    alike = shape.latent is None or shape.latent.value == shape.head_dim
    if dtype.is_half and recent and not masked and alike and shape.head_dim <= _WIDEST_FLASH_HEAD:
        return Attention.FLASH_ATTENTION_2
    grouped = shape.num_key_value_heads < shape.num_attention_heads
    readable = dtype is not Dtype.BF16 or recent
    if readable and capability >= (5, 0) and (not grouped or (masked and not shape.broadcast)):
        return Attention.EFFICIENT
    return Attention.MATH


def of_call(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Attention:
    """The same rules for one call of ``scaled_dot_product_attention``."""
    dtype, capability = query.dtype, query.tape.capability
    recent = capability >= (8, 0)
    alike = query.shape[3] == value.shape[3]
    if dtype.is_half and recent and mask is None and alike and query.shape[3] <= _WIDEST_FLASH_HEAD:
        return Attention.FLASH_ATTENTION_2
    readable = dtype is not Dtype.BF16 or recent
    if readable and capability >= (5, 0) and (mask is not None or key.shape[1] == query.shape[1]):
        return Attention.EFFICIENT
    return Attention.MATH


def in_use(shape: Architecture, workload: Workload, capability: tuple[int, int]) -> frozenset[Attention]:
    """The kernels of all layers."""
    types = set(shape.layer_types) or {shape.layer_type(0)}
    return frozenset(choose(shape, workload, capability, layer_type) for layer_type in types)
