"""T5's relative positions: each pair of positions falls into a bucket that has a bias for each head.

Source: ``T5Attention.compute_bias`` and ``_relative_position_bucket`` in transformers
src/transformers/models/t5/modeling_t5.py. Shapes: buckets (Q, K) int64, biases (1, H, Q, K).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import ops
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.tensor import Parameter, Tape, Tensor


def compute_bias(table: Parameter, queries: int, keys: int, *, bidirectional: bool) -> Tensor:
    """Biases of every pair of positions: a view of looked-up rows; backward adds them up in the table."""
    tape = table.tape
    context_position = _integers(tape, (queries, 1), "arange")
    memory_position = _integers(tape, (1, keys), "arange")
    relative_position = _integers(tape, (queries, keys), "sub")
    bucket = _bucket(relative_position, bidirectional=bidirectional)
    values = _by_head(ops.embedding(table, bucket))
    del context_position, memory_position, relative_position, bucket
    return values


def _integers(tape: Tape, shape: tuple[int, ...], op: str) -> Tensor:
    return tape.empty(shape, Dtype.INT64, op)


def _bucket(relative_position: Tensor, *, bidirectional: bool) -> Tensor:
    """``_relative_position_bucket``: far positions share buckets by the logarithm of their distance."""
    tape, shape = relative_position.tape, relative_position.shape

    def chain(*ops_and_types: tuple[str, Dtype]) -> Tensor:
        made: Tensor | None = None
        for op, dtype in ops_and_types:
            made = tape.empty(shape, dtype, op)
        assert made is not None
        return made

    def one(op: str, dtype: Dtype = Dtype.INT64) -> Tensor:
        return tape.empty(shape, dtype, op)

    relative_buckets: Tensor | None = None
    if bidirectional:
        whole = (("to", Dtype.INT64), ("mul", Dtype.INT64), ("add", Dtype.INT64))
        relative_buckets = chain(("gt", Dtype.BOOL), *whole)
        relative_position = one("abs")
    else:
        zeros = one("zeros_like")
        lowest = one("min")
        del zeros
        relative_position = one("neg")
        del lowest
    is_small = one("lt", Dtype.BOOL)
    real = tuple((op, Dtype.FP32) for op in ("float", "div", "log", "div", "mul"))
    if_large = chain(*real, ("to", Dtype.INT64), ("add", Dtype.INT64))
    limit = one("full_like")
    limited = one("min")
    del limit
    if_large = limited
    del limited
    chosen = one("where")
    # Added in place, but to the plain zero of one direction.
    relative_buckets = relative_buckets or one("add")
    del chosen, relative_position, is_small, if_large
    return relative_buckets


def _by_head(values: Tensor) -> Tensor:
    """``values.permute([2, 0, 1]).unsqueeze(0)`` of (Q, K, H)."""
    (queries, keys, heads), (row, column, step) = values.shape, values.strides

    def run(_: Node, gradient: Tensor) -> Gradients:
        _first, of_head, of_query, of_key = gradient.strides
        return (gradient.alias((queries, keys, heads), (of_query, of_key, of_head)),)

    node = begin(run, values)
    view = values.alias((1, heads, queries, keys), (heads * step, step, row, column))
    return ops.finish(node, view)
