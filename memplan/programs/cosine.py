"""Cosine similarity in ops: rows divided by their norms, and ``torch.cosine_similarity`` of all pairs."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator.tensor import Tape, Tensor

NUMBER = Dtype.FP32


def normalised(tape: Tape, rows: int, width: int) -> Tensor:
    """``F.normalize`` of (rows, width): norms, norms that are not too small, quotients."""
    norm = tape.empty((rows, 1), NUMBER, "linalg_vector_norm")
    clamped = tape.empty((rows, 1), NUMBER, "clamp_min")
    del norm
    quotient = tape.empty((rows, width), NUMBER, "div")
    del clamped
    return quotient


def similarity(tape: Tape, queries: int, keys: int, width: int) -> Tensor:
    """``torch.cosine_similarity`` of (Q, 1, K) and (1, M, K), both of which it expands to (Q, M, K).

    Norms are taken of the expanded operands and copied; then come both quotients, their product and its sum
    (``cosine_similarity`` in aten/src/ATen/native/Distance.cpp; torch 2.13 makes a tensor of its eps too).
    Three tensors of Q × M × K numbers live at once.
    """
    norms = []
    for _ in range(2):
        norm = tape.empty((queries, keys, 1), NUMBER, "linalg_vector_norm")
        norms.append(tape.empty((queries, keys, 1), NUMBER, "clone"))
        del norm
    eps = tape.empty((), NUMBER, "scalar_tensor")
    quotients = [tape.empty((queries, keys, width), NUMBER, "div") for _ in range(2)]
    product = tape.empty((queries, keys, width), NUMBER, "mul")
    total = tape.empty((queries, keys), NUMBER, "sum")
    del product, quotients, eps, norms
    return total
