"""Log-probabilities of the labels from tiles of the logits, as every trainer of TRL takes them.

Shapes: hidden states (B, S, h), head (V, h); N = B·(S-1) tokens that have a label.
Source: ``add_fused_lm_head`` in trl/trainer/utils.py, ``ChunkedLogProbFunction`` in
trl/kernels/chunked_logprob.py (1.16).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.simulator import shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Parameter, Tape, Tensor

TOKENS = 4096
COLUMNS = 32768
"""Sides of a tile (``TOKEN_CHUNK_SIZE``, ``_CHUNKED_LOGPROB_CHUNK_SIZE``)."""

_STATISTICS = 7
"""Running numbers of every token: maximum, sums and the label's own logit."""


def log_probs_loss(hidden_states: Tensor, head: Parameter, labels: Tensor) -> Tensor:
    """The mean negative log-likelihood of the labels, every one of which counts.

    The head's gradient is gathered in fp32 whatever the head is in, when backward begins: nothing of the
    activations is free yet.
    """
    tape = labels.tape
    length = hidden_states.shape[1]
    shifted = shapes.narrow(hidden_states, 1, length - 1)
    mask = tape.empty(shifted.shape[:2], Dtype.BOOL, "ne")
    flat = _labelled(shifted, mask)
    targets = tape.empty(flat.shape[:1], Dtype.INT64, "index")
    return _mean(flat, head, targets)


def _labelled(shifted: Tensor, mask: Tensor) -> Tensor:
    """``hidden_states[mask]``: a copy; backward adds rows up in zeros of the shape they came from."""
    tape, shape = shifted.tape, shifted.shape
    tokens = shape[0] * shape[1]

    def run(node: Node, gradient: Tensor) -> Gradients:
        _ = node.unpack()
        places = tape.empty((tokens, 2), Dtype.INT64, "nonzero")
        result = tape.empty(shape, gradient.dtype, "index_backward")
        sorting = tape.empty((6, tokens), Dtype.INT64, "index_put")
        del places, sorting
        return (result,)

    node = begin(run, shifted)
    places = tape.empty((tokens, 2), Dtype.INT64, "nonzero")
    result = finish(node, tape.empty((tokens, shape[2]), shifted.dtype, "index"))
    del places
    if node is not None:
        node.save(tape, mask)
    return result


def _mean(flat: Tensor, head: Parameter, targets: Tensor) -> Tensor:
    tape = flat.tape
    dtype = tape.autocast or flat.dtype

    def run(node: Node, _: Tensor) -> Gradients:
        return _gradients(node, dtype)

    node = begin(run, flat, head)
    count = flat.shape[0]
    statistics = tape.empty((_STATISTICS, count), Dtype.FP32, "statistics")
    _tiles(tape, flat, head, dtype, None)
    partition = tape.empty((count,), Dtype.FP32, "log_z")
    entropy = tape.empty((count,), Dtype.FP32, "entropy")
    found = tape.empty((count,), Dtype.FP32, "logprobs")
    del statistics
    result = finish(node, tape.empty((), Dtype.FP32, "sum"))
    if node is not None:
        node.save(tape, flat, head, targets, partition, entropy)
    del found
    return result


def _gradients(node: Node, dtype: Dtype) -> Gradients:
    """Tiles once more, turned into their own gradients; what is gathered of them is fp32."""
    flat, head, *_others = node.unpack()
    assert flat is not None
    assert head is not None
    tape = flat.tape
    of_input = tape.empty(flat.shape, Dtype.FP32, "grad_hidden")
    trains = node.edges[1] is not None
    of_head = tape.empty(head.shape, Dtype.FP32, "grad_weight") if trains else None
    last = _tiles(tape, flat, head, dtype, [])
    of_input = of_input if flat.dtype is Dtype.FP32 else tape.empty(flat.shape, flat.dtype, "to")
    if of_head is not None and head.dtype is not Dtype.FP32:
        of_head = tape.empty(head.shape, head.dtype, "to")
    del last
    return of_input, of_head


def _tiles(
    tape: Tape, flat: Tensor, head: Tensor, dtype: Dtype, kept: list[Tensor] | None
) -> list[Tensor] | None:
    """The products of all tiles in one buffer; pieces of hidden states and head are cast where need be.

    Backward has names for them (``kept``), so that a piece is there until the next one is.
    """
    tape.take_workspace()
    tokens, width = flat.shape
    buffer = tape.empty((min(tokens, TOKENS), COLUMNS), dtype, "mm_buf")
    rows: Tensor | None = None
    piece: Tensor | None = None
    for start in range(0, tokens, TOKENS):
        if flat.dtype is not dtype:
            rows = tape.empty((min(TOKENS, tokens - start), width), dtype, "to")
        for column in range(0, head.shape[0], COLUMNS):
            if head.dtype is not dtype:
                piece = tape.empty((min(COLUMNS, head.shape[0] - column), width), dtype, "to")
                piece = piece if kept is not None else None
    if kept is None:
        return None
    return [item for item in (buffer, rows, piece) if item is not None]
