"""Attention masks: boolean as transformers makes them, additive as kernels take them."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import layout
from memplan.simulator.tensor import Tensor


def causal(like: Tensor, length: int, keys: int | None = None) -> Tensor:
    """A boolean mask (B, 1, S, keys) where ``is_causal`` will not do: one (S, keys), expanded."""
    shape = (like.shape[0], 1, length, length if keys is None else keys)
    mask = like.tape.empty((1, *shape[1:]), Dtype.BOOL, "causal_mask")
    return mask.alias(shape, layout.expand(mask.shape, mask.strides, shape))


def additive(mask: Tensor, dtype: Dtype) -> Tensor:
    """A boolean mask turned into 0 and -inf of ``dtype``, one per sequence."""
    return mask.tape.empty(mask.shape, dtype, "where")
