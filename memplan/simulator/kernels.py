"""Which attention kernel runs: PyTorch's and transformers' rules for ``scaled_dot_product_attention``."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import Attention, Task, Workload
from memplan.simulator.tensor import HOST as HOST
from memplan.simulator.tensor import Tensor

_WIDEST_FLASH_HEAD = 256
_SMALL = ((8, 6), (8, 7), (8, 8), (8, 9), (12, 0), (12, 1))
"""Capabilities on which FlashAttention trains heads of up to 192, or above 224 without dropout."""

_TRAINED_ON_SMALL, _NOT_ON_SMALL = 192, 224


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

    Other choices of attention stand as they are; for SDPA the rules are those of ``Heads``. Without a mask
    transformers leaves the grouping of heads to PyTorch (``use_gqa_in_sdpa``); latent attention's values are
    narrower than its keys. While generating, masks come and go: ``SDPA`` stands, each call decides itself.
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
    return Heads(
        width=shape.head_dim,
        value_width=shape.head_dim if shape.latent is None else shape.latent.value,
        grouped=shape.num_key_value_heads < shape.num_attention_heads and (shape.broadcast or not masked),
        told=not shape.broadcast or shape.num_key_value_heads == 1,
        masked=masked,
        dropout=shape.dropout.attention > 0,
        dtype=_attended(workload),
    ).kernel(capability, workload.framework, trains=True)


def _attended(workload: Workload) -> Dtype:
    """The dtype that attention is computed in.

    A model prepared for training beside quantized weights hands on fp32 from layer to layer, and only
    autocast makes it less (``prepare_model_for_kbit_training`` in peft src/peft/utils/other.py).
    """
    adapter = workload.adapter
    prepared = adapter is not None and adapter.prepare_kbit and not adapter.half_embeddings
    return Dtype.FP32 if prepared and workload.precision.autocast is None else workload.compute


def of_call(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Attention:
    """The same rules for one call of ``scaled_dot_product_attention`` while generating."""
    return Heads(
        width=query.shape[3],
        value_width=value.shape[3],
        grouped=mask is None and key.shape[1] < query.shape[1],
        told=True,
        masked=mask is not None,
        dropout=False,
        dtype=query.dtype,
    ).kernel(query.tape.capability, query.tape.framework, trains=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What PyTorch looks at before it takes a kernel.

    ``width`` and ``value_width`` are those of a head. ``grouped`` says that there are fewer key heads than
    query heads, ``told`` that the call says so (``enable_gqa``) or that there is one for all.
    """

    width: int
    value_width: int
    grouped: bool
    told: bool
    masked: bool
    dropout: bool
    dtype: Dtype

    def kernel(self, capability: tuple[int, int], framework: Framework, *, trains: bool) -> Attention:
        """Flash if it can, else the efficient kernel if it can, else the unfused one.

        ``select_sdp_backend`` in aten/src/ATen/native/transformers/cuda/sdp_utils.cpp. A CPU's flash kernel
        takes masks, grouped heads and every dtype, and drops nothing out (``use_flash_attention_cpp`` in
        sdp_utils_cpp.cpp).
        """
        if capability == HOST:
            fused = self.width == self.value_width and not self.dropout
            return Attention.FLASH_ATTENTION_2 if fused else Attention.MATH
        if self._flash(capability, trains=trains):
            return Attention.FLASH_ATTENTION_2
        return Attention.EFFICIENT if self._efficient(capability, framework) else Attention.MATH

    def _flash(self, capability: tuple[int, int], *, trains: bool) -> bool:
        """Half inputs without a mask on sm_80 and newer, heads of one width up to 256.

        Cards with less shared memory than those of data centres do not train all widths above 192
        (``can_use_flash_attention`` and what it lists, ``check_requires_grad_and_head_dim_gt192_…``).
        """
        if not self.dtype.is_half or capability < (8, 0) or self.masked or self.width != self.value_width:
            return False
        if trains and capability in _SMALL and self.width > _TRAINED_ON_SMALL:
            return _NOT_ON_SMALL < self.width <= _WIDEST_FLASH_HEAD and not self.dropout
        return self.width <= _WIDEST_FLASH_HEAD

    def _efficient(self, capability: tuple[int, int], framework: Framework) -> bool:
        """Masks, and fp16 or fp32 from sm_50 (bf16 from sm_80); grouped heads since PyTorch 2.14.

        ``can_use_mem_efficient_attention``, ``check_head_dim_size_mem_efficient``.
        """
        if self.grouped and (framework.torch_before(2, 14) or not self.told):
            return False
        readable = self.dtype is not Dtype.BF16 or capability >= (8, 0)
        aligned = self._alignment(capability)
        fits = self.width % aligned == 0 and self.value_width % aligned == 0
        return readable and fits and capability >= (5, 0)

    def _alignment(self, capability: tuple[int, int]) -> int:
        """What widths are multiples of: 16 bytes where tensor cores work (``minimum_gemm_alignment``)."""
        works = capability >= (8, 0) or (capability >= (7, 0) and self.dtype.is_half)
        return 16 // self.dtype.itemsize if works else 1


def in_use(shape: Architecture, workload: Workload, capability: tuple[int, int]) -> frozenset[Attention]:
    """The kernels of all layers."""
    types = set(shape.layer_types) or {shape.layer_type(0)}
    return frozenset(choose(shape, workload, capability, layer_type) for layer_type in types)
