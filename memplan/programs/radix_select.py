"""Temporaries of ``topk`` on CUDA, which finds the k-th number of long rows digit by digit."""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator.tensor import Tape

DIGITS = 256
"""Values of a radix digit, for each of which numbers are counted."""

COUNTER = 2
"""Bytes of such a count."""

NUMBERS_PER_BLOCK = 4 * 256
"""Fewest numbers that a thread block looks through: 4 for each of 256 threads."""

_LONG_ROWS = ((20, 20_000), (40, 10_000), (80, 8_000), (199, 5_000), (799, 3_000), (4_000, 800))
"""Up to so many rows, rows from this length on are split among blocks."""


def splits_rows(rows: int, length: int) -> bool:
    """Whether blocks share rows (``should_use_multiblock`` in aten/src/ATen/native/cuda/TensorTopK.cu)."""
    for most, least in _LONG_ROWS:
        if rows <= most:
            return length >= least
    return length >= 400


def select(tape: Tape, rows: int, length: int) -> None:
    """Take and return what ``topk`` of fp32 (rows, length) needs beside its results.

    ``mbtopk::launch`` in TensorTopK.cu: the k-th numbers, what to find and what was found in two copies,
    counts by block and digit, their sums, and two counts by block. How many blocks share a row depends on the
    GPU's processors; the most there can be is counted. Rows that are not split take nothing.
    """
    if not splits_rows(rows, length):
        return
    blocks = rows * -(-length // NUMBERS_PER_BLOCK)
    _ = [
        tape.empty((rows,), Dtype.FP32, "kth_values"),
        tape.empty((2 * rows,), Dtype.INT32, "ks_to_find"),
        tape.empty((2 * rows,), Dtype.INT32, "desired"),
        tape.empty((blocks, DIGITS, COUNTER), Dtype.UINT8, "digit_counts"),
        tape.empty((rows, DIGITS), Dtype.INT32, "digit_sums"),
        tape.empty((2 * blocks,), Dtype.INT32, "block_counts"),
    ]
