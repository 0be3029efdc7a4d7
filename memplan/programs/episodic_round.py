"""One round of an episodic memory beside a residual stream, op by op.

The ops are those of ``memplan.mechanisms.episodic``, in its order; numbers are fp32. What is written is new
to the memory, as that asks for most. Extremes and counts of a few bytes are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.domain.dtype import Dtype
from memplan.domain.setting import Settings, whole, word
from memplan.programs import cosine, radix_select
from memplan.simulator.kernels import HOST
from memplan.simulator.tensor import Tape, Tensor

MATMUL, BROADCAST = "matmul", "broadcast"
INDEX, NUMBER = Dtype.INT64, Dtype.FP32


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Q queries, M slots of width K, k neighbours; queries compared at once when reading and writing."""

    queries: int
    slots: int
    width: int
    neighbours: int
    broadcast: bool
    read_chunk: int
    write_chunk: int

    @classmethod
    def of(cls, settings: Settings) -> Sizes:
        """Those of complete settings."""
        slots = whole(settings, "memory_size")
        queries = whole(settings, "batch") * whole(settings, "sequence")
        return cls(
            queries=queries,
            slots=slots,
            width=whole(settings, "key_size"),
            neighbours=min(whole(settings, "neighbours"), slots),
            broadcast=word(settings, "similarity") == BROADCAST,
            read_chunk=min(whole(settings, "read_chunk"), queries) or queries,
            write_chunk=min(whole(settings, "write_chunk"), queries) or queries,
        )


def load(sizes: Sizes, tape: Tape) -> list[Tensor]:
    """``Bank.__init__`` and the linear layer of ``GatedMemory``."""
    tape.component, tape.scope = "memory_bank", "bank"
    rows = [tape.empty((sizes.slots, sizes.width), NUMBER, name) for name in ("keys", "values")]
    counts = [tape.empty((sizes.slots,), INDEX, name) for name in ("hits", "last_used")]
    tape.component, tape.scope = "gate", "gate"
    weight = tape.empty((1, sizes.width), NUMBER, "weight")
    return [*rows, *counts, weight, tape.empty((1,), NUMBER, "bias")]


def forward(sizes: Sizes, tape: Tape) -> None:
    """``GatedMemory.forward``."""
    tape.component, tape.scope = "residual_stream", ""
    x = tape.empty((sizes.queries, sizes.width), NUMBER, "input")
    recalled = _read(sizes, tape)
    _write(sizes, tape)
    tape.component, tape.scope = "gate", "gate"
    linear = tape.empty((sizes.queries, 1), NUMBER, "addmm")
    opened = tape.empty((sizes.queries, 1), NUMBER, "sigmoid")
    del linear
    gated = tape.empty((sizes.queries, sizes.width), NUMBER, "mul")
    del opened
    tape.component = "residual_stream"
    added = tape.empty((sizes.queries, sizes.width), NUMBER, "add")
    del gated, added, recalled, x


def _read(sizes: Sizes, tape: Tape) -> Tensor:
    """``reading.recall``: what it returns is there from the start; the values stay."""
    tape.component, tape.scope = "recalled", "read"
    values = tape.empty((sizes.queries, sizes.width), NUMBER, "values")
    similar = tape.empty((sizes.queries, sizes.neighbours), NUMBER, "similarity")
    slots = tape.empty((sizes.queries, sizes.neighbours), INDEX, "slots")
    tape.component = "similarity"
    keys = _unit_keys(sizes, tape)
    for count in _alike(sizes.queries, sizes.read_chunk):
        _answer(sizes, count, tape)
    del keys
    for count in _alike(sizes.queries, sizes.read_chunk):
        ones = tape.empty((count, sizes.neighbours), INDEX, "ones_like")
        del ones
    del similar, slots
    return values


def _answer(sizes: Sizes, count: int, tape: Tape) -> None:
    """``reading._answer``: the k best of each query, and the weighted sum of their values."""
    shape = (count, sizes.neighbours)
    compared = _compared(sizes, count, tape)
    best, slots = tape.empty(shape, NUMBER, "topk"), tape.empty(shape, INDEX, "topk_indices")
    if tape.capability != HOST:
        radix_select.select(tape, count, sizes.slots)
    del compared
    divided = tape.empty(shape, NUMBER, "div")
    weights = tape.empty(shape, NUMBER, "softmax")
    del divided
    _embedding_bag(sizes, count, tape)
    del best, slots, weights


def _embedding_bag(sizes: Sizes, count: int, tape: Tape) -> None:
    """``F.embedding_bag`` of (c, k) indices: where bags begin, the sums, the bags' sizes, and one more.

    On a CPU that is ``max_indices``, as long as the sizes although nothing is maximised
    (``make_max_indices_out`` in aten/src/ATen/native/EmbeddingBag.cpp); CUDA notes the bag of each index
    (``_embedding_bag_cuda`` in aten/src/ATen/native/cuda/EmbeddingBag.cu).
    """
    offsets = tape.empty((count,), INDEX, "arange")
    sums = tape.empty((count, sizes.width), NUMBER, "embedding_bag")
    bags = tape.empty((count,), INDEX, "bag_size")
    if tape.capability == HOST:
        more = tape.empty((count,), INDEX, "max_indices")
    else:
        more = tape.empty((count * sizes.neighbours,), INDEX, "offset2bag")
    del more, bags, offsets, sums


def _write(sizes: Sizes, tape: Tape) -> None:
    """``writing.place``: the best slot of every query; then ``writing.carry_out``."""
    tape.component, tape.scope = "similarity", "write"
    best = tape.empty((sizes.queries,), NUMBER, "full")
    slots = tape.empty((sizes.queries,), INDEX, "zeros")
    keys = _unit_keys(sizes, tape)
    for count in _alike(sizes.queries, sizes.write_chunk):
        # Maxima and their slots go straight into ``best`` and ``slots``, comparisons into what they compare.
        compared = _compared(sizes, count, tape)
        edge = tape.empty((count,), NUMBER, "sub")
        del compared, edge
    del keys
    tape.component = "placement"
    known = tape.empty((sizes.queries,), Dtype.BOOL, "ge")
    novel = tape.empty((sizes.queries,), INDEX, "nonzero")
    order = tape.empty((sizes.slots,), INDEX, "argsort")
    room = tape.empty((sizes.slots,), INDEX, "cat")
    del order, best, slots, known
    kept = tape.empty((sizes.slots, 1), NUMBER, "new_zeros")
    stored = min(sizes.queries, sizes.slots)
    for count in 2 * tuple(_alike(stored, sizes.write_chunk)):
        # Of the keys, then of the values.
        part = tape.empty((count, sizes.width), NUMBER, "index")
        del part
    del kept, room, novel


def _unit_keys(sizes: Sizes, tape: Tape) -> Tensor | None:
    """``similarity.against``: every key divided by its norm, once for all chunks."""
    return None if sizes.broadcast else cosine.normalised(tape, sizes.slots, sizes.width)


def _compared(sizes: Sizes, count: int, tape: Tape) -> Tensor:
    """The similarities (c, M) of a chunk."""
    if sizes.broadcast:
        return cosine.similarity(tape, count, sizes.slots, sizes.width)
    queries = cosine.normalised(tape, count, sizes.width)
    product = tape.empty((count, sizes.slots), NUMBER, "mm")
    del queries
    return product


def _alike(rows: int, chunk: int) -> Iterator[int]:
    """Sizes of the first two chunks, and of the last if it is smaller: those between are like the second."""
    count, rest = divmod(rows, chunk)
    yield from (chunk for _ in range(min(count, 2)))
    if rest:
        yield rest
