"""The allocations of the loops of ``memplan.mechanisms.buffers``, with the ATen op that makes each.

Shapes as there: V vocabulary, E embedding, S state, O output, C tokens at once. All is fp32 on a CPU.
"""

from __future__ import annotations

from memplan.domain.bytes import Bytes
from memplan.domain.churn import Churn
from memplan.domain.dtype import Dtype
from memplan.domain.setting import Settings, whole
from memplan.simulator.tensor import Tape, Tensor

SAMPLED = "sampled"


def made(tape: Tape) -> Churn:
    """Everything a tape has seen allocated."""
    return Churn(count=len(tape.trace.sizes), bytes=Bytes(sum(tape.trace.sizes)))


def weights(settings: Settings, tape: Tape) -> list[Tensor]:
    """The matrices and biases of ``TokenModel``."""
    embedding, state = whole(settings, "embedding"), whole(settings, "state")
    output, vocabulary = whole(settings, "output"), whole(settings, "vocabulary")
    shapes: dict[str, list[tuple[int, ...]]] = {
        "embeddings": [(vocabulary, embedding)],
        "blocks": [(state, embedding), (state,), (state, state), (output, state), (output,)],
        "decoder_matrix": [(vocabulary, output)],
    }
    found = []
    for component, several in shapes.items():
        tape.component = component
        found += [tape.empty(shape, Dtype.FP32, "parameter") for shape in several]
    return found


def given(settings: Settings, tape: Tape) -> list[Tensor]:
    """What the caller hands over: tokens, where to write what follows them, and the state."""
    tokens = (whole(settings, "tokens"),)
    tape.component = "tokens"
    found = [tape.empty(tokens, Dtype.INT64, name) for name in ("ids", "out")]
    tape.component = "state"
    return [*found, tape.empty((1, whole(settings, "state")), Dtype.FP32, "state")]


def buffers(settings: Settings, tape: Tape) -> list[Tensor]:
    """The pool of ``PreallocatedLoop``: a row for each result, the best score, noise and the temperature."""
    state, vocabulary = whole(settings, "state"), whole(settings, "vocabulary")
    widths = [whole(settings, "embedding"), state, state, state, whole(settings, "output"), vocabulary, 1]
    if settings["decoding"] == SAMPLED:
        widths += [vocabulary, 1]
    tape.component = "buffers"
    return [tape.empty((1, width), Dtype.FP32, "buffer") for width in widths]


def each(settings: Settings, tape: Tape, tokens: int) -> None:
    """``AllocatingLoop``: what a name held is freed when the next token's result takes its place."""
    state = (1, whole(settings, "state"))
    tape.component = "results"
    for _ in range(tokens):
        embedded = tape.empty((1, whole(settings, "embedding")), Dtype.FP32, "index_select")
        projected = tape.empty(state, Dtype.FP32, "addmm")
        kept = tape.empty(state, Dtype.FP32, "mm")
        total = tape.empty(state, Dtype.FP32, "add")
        current = tape.empty(state, Dtype.FP32, "tanh")
        output = tape.empty((1, whole(settings, "output")), Dtype.FP32, "addmm")
        scores = tape.empty((1, whole(settings, "vocabulary")), Dtype.FP32, "mm")
        if settings["decoding"] == SAMPLED:
            scores = _drawn(scores)
        best, token = _largest(tape, 1)
    del embedded, projected, kept, total, current, output, scores, best, token


def several(settings: Settings, tape: Tape, count: int) -> None:
    """``BatchedLoop`` with ``count`` tokens at once; the recurrence works in place."""
    tape.component = "results"
    embedded = tape.empty((count, whole(settings, "embedding")), Dtype.FP32, "index_select")
    states = tape.empty((count, whole(settings, "state")), Dtype.FP32, "addmm")
    del embedded
    output = tape.empty((count, whole(settings, "output")), Dtype.FP32, "addmm")
    del states
    scores = tape.empty((count, whole(settings, "vocabulary")), Dtype.FP32, "mm")
    del output
    if settings["decoding"] == SAMPLED:
        _number(tape)
        tape.empty(scores.shape, Dtype.FP32, "empty_like")  # noise
    best, token = _largest(tape, count)
    tape.empty((), Dtype.FP32, "linalg_vector_norm")
    del scores, best, token


def _drawn(logits: Tensor) -> Tensor:
    """Logits by the temperature, probabilities, noise, and one over the other."""
    tape, shape = logits.tape, logits.shape
    number = _number(tape)
    scaled = tape.empty(shape, Dtype.FP32, "div")
    del number
    probabilities = tape.empty(shape, Dtype.FP32, "_softmax")
    noise = tape.empty(shape, Dtype.FP32, "empty_like")
    drawn = tape.empty(shape, Dtype.FP32, "div")
    del scaled, probabilities, noise
    return drawn


def _number(tape: Tape) -> tuple[Tensor, Tensor]:
    """A Python number beside a tensor: wrapped in fp64, then cast to the tensor's type.

    ``wrapped_scalar_tensor`` in aten/src/ATen/ScalarOps.h, and the cast that ``TensorIteratorBase``
    makes of an operand on the CPU whose type is not the common one (``compute_types``, same folder).
    """
    return tape.empty((), Dtype.FP64, "scalar_tensor"), tape.empty((), Dtype.FP32, "to")


def _largest(tape: Tape, count: int) -> tuple[Tensor, Tensor]:
    """Values and indices of ``max`` along a row."""
    return tape.empty((count,), Dtype.FP32, "max"), tape.empty((count,), Dtype.INT64, "max")
