"""Tensors as published to weights as loaded: who packs several into one element, and what comes beside them.

Checked against the writers of each layout: bitsandbytes (``Params4bit`` and ``QuantState.as_dict``), AutoGPTQ
and AutoAWQ (``qweight`` of int32), compressed-tensors (``weight_packed``), DeepSeek's and ModelOpt's fp8
(``weight_scale_inv``, ``weight_scale``), and OpenAI's MXFP4 (``_blocks`` and ``_scales``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from memplan.domain.bytes import Bytes
from memplan.domain.published import Published

BESIDE: tuple[tuple[str, str], ...] = (
    (".absmax", "bitsandbytes"),
    (".quant_map", "bitsandbytes"),
    (".nested_absmax", "bitsandbytes"),
    (".nested_quant_map", "bitsandbytes"),
    (".SCB", "bitsandbytes"),
    (".weight_format", "bitsandbytes"),
    (".qzeros", "gptq"),
    (".g_idx", "gptq"),
    ("_scales", "mxfp4"),
    (".weight_scale_inv", "fp8"),
    (".weight_shape", "compressed-tensors"),
    (".weight_g_idx", "compressed-tensors"),
    (".weight_zero_point", "compressed-tensors"),
)
"""Ends of names of what a layout stores beside weights, and the layout that does."""

SCALES = (
    ".scales",
    ".weight_scale",
    ".input_scale",
    ".weight_scale_2",
    ".k_scale",
    ".v_scale",
    ".output_scale",
)
"""More of the same, of several layouts."""

BUFFERS = (".rotary_emb.inv_freq", ".masked_bias", ".position_ids")
"""Ends of names of buffers that older releases of transformers wrote beside parameters."""

_QUANT_STATE = ".quant_state.bitsandbytes__"
_FOUR_BIT_IN_A_WORD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One entry of a header: ``elements`` of a dtype (as safetensors names it) in ``size`` bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, name: str, dtype: str, shape: tuple[int, ...], bits: int) -> Tensor:
        """A tensor whose elements take a number of bits."""
        return cls(name=name, dtype=dtype, shape=shape, size=-(-prod(shape) * bits // 8))

    @property
    def elements(self) -> int:
        """How many elements are stored."""
        return prod(self.shape)


def summary(tensors: Sequence[Tensor], *, files: int = 1) -> Published:
    """The tensors of all of a model's files as one."""
    known = {tensor.name: tensor for tensor in tensors}
    dtypes: Counter[str] = Counter()
    layouts: Counter[str] = Counter()
    parameters = 0
    for tensor in tensors:
        dtypes[tensor.dtype] += tensor.size
        layout, weights = _unpacked(tensor, known)
        parameters += weights
        if layout is not None:
            layouts[layout] += 1
    return Published(
        parameters=parameters,
        size=Bytes(sum(dtypes.values())),
        dtypes=tuple((name, Bytes(size)) for name, size in dtypes.most_common()),
        layout=layouts.most_common(1)[0][0] if layouts else None,
        files=files,
    )


def _unpacked(tensor: Tensor, known: Mapping[str, Tensor]) -> tuple[str | None, int]:
    """The layout a tensor tells of, and how many weights it holds: none, for what comes beside weights."""
    name, elements = tensor.name, tensor.elements
    if _QUANT_STATE in name:
        return "bitsandbytes", 0
    if beside := next((layout for end, layout in BESIDE if name.endswith(end)), None):
        return beside, 0
    if name.endswith((*SCALES, *BUFFERS)) or _is_mask(tensor):
        return None, 0
    if name.endswith(".qweight"):
        return _of_words(tensor, known)
    if tensor.dtype == "U8":
        return _of_bytes(tensor, known)
    if name.endswith(".weight_packed"):
        return "compressed-tensors", elements * _FOUR_BIT_IN_A_WORD
    return ("fp8" if tensor.dtype.startswith("F8_") else None), elements


def _of_bytes(tensor: Tensor, known: Mapping[str, Tensor]) -> tuple[str | None, int]:
    """Two 4-bit weights in a byte, where a neighbour or the name says so."""
    name, elements = tensor.name, tensor.elements
    if f"{name}.absmax" in known:
        return "bitsandbytes", elements * 2
    if name.endswith(".weight_packed") or f"{name}_scale" in known:
        return "nvfp4", elements * 2
    return ("mxfp4", elements * 2) if name.endswith("_blocks") else (None, elements)


def _of_words(tensor: Tensor, known: Mapping[str, Tensor]) -> tuple[str, int]:
    """Weights in 32-bit words: GPTQ packs along the inputs, which ``g_idx`` counts; AWQ along the outputs."""
    stem = tensor.name.removesuffix("qweight")
    rows, columns = tensor.shape if len(tensor.shape) == 2 else (tensor.elements, 1)
    scales, inputs = known.get(f"{stem}scales"), known.get(f"{stem}g_idx")
    if inputs is not None:
        return "gptq", inputs.elements * columns
    if scales is not None and scales.shape and scales.shape[-1] != columns:
        return "awq", rows * scales.shape[-1]
    return "gptq", rows * columns * _FOUR_BIT_IN_A_WORD


def _is_mask(tensor: Tensor) -> bool:
    """GPT-2's and GPT-NeoX's causal masks, once saved as ``attn.bias`` of shape (1, 1, length, length)."""
    return (
        len(tensor.shape) == 4
        and tensor.shape[:2] == (1, 1)
        and tensor.name.endswith(("attn.bias", "attention.bias"))
    )
