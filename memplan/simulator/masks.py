"""Attention masks: boolean as transformers makes them, additive as kernels take them."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import layout
from memplan.simulator.tensor import Tensor


def causal(like: Tensor, length: int) -> Tensor:
    """A boolean mask (B, 1, S, S) where ``is_causal`` will not do: one (S, S), expanded."""
    shape = (like.shape[0], 1, length, length)
    mask = like.tape.empty((1, 1, length, length), Dtype.BOOL, "causal_mask")
    return mask.alias(shape, layout.expand(mask.shape, mask.strides, shape))


def additive(mask: Tensor, dtype: Dtype) -> Tensor:
    """A boolean mask turned into 0 and -inf of ``dtype``, one per sequence."""
    return mask.tape.empty(mask.shape, dtype, "where")
