"""Cosine similarity of queries and keys, in two forms that give the same numbers to rounding.

Shapes: Q queries and M keys of width K; a similarity is (Q, M).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from memplan.mechanisms.episodic.settings import MATMUL

SMALLEST_NORM = 1e-8
"""A shorter vector is divided by this instead of by its norm: the default of ``torch.cosine_similarity``."""

HALF = 2
"""Bytes of a number in half precision."""

Similarity = Callable[[Tensor], Tensor]
"""Queries (Q, K) to their similarities with the keys of one bank, (Q, M)."""


def against(keys: Tensor, form: str) -> Similarity:
    """The similarity to ``keys`` (M, K); the matmul form normalises them once, into M × K numbers."""
    if form == MATMUL:
        unit = normalised(keys)
        return lambda queries: torch.mm(normalised(queries), unit.t())
    return lambda queries: broadcast(queries, keys)


def rounding(dtype: torch.dtype) -> float:
    """By how much two computations of one similarity may differ: more than sums of thousands of terms do.

    Half precision is summed up in fp32 and rounded once.
    """
    step = float(torch.finfo(dtype).eps)
    return 128 * step if dtype.itemsize > HALF else 2 * step


def normalised(rows: Tensor) -> Tensor:
    """Each row divided by its norm, as a new tensor; a row of zeros stays one."""
    return functional.normalize(rows, dim=1, eps=SMALLEST_NORM)


def broadcast(queries: Tensor, keys: Tensor) -> Tensor:
    """``torch.cosine_similarity`` of every pair, as it is written without a thought for memory.

    ATen expands both operands to (Q, M, K), which costs nothing, and then makes three tensors of that shape
    that live at once: both quotients by the norms and their product (``cosine_similarity`` in
    aten/src/ATen/native/Distance.cpp). In fp32 that is 12 · Q · M · K bytes.
    """
    return functional.cosine_similarity(queries.unsqueeze(1), keys.unsqueeze(0), dim=-1, eps=SMALLEST_NORM)
