"""What ``memplan.mechanisms.episodic`` allocates when a full memory stands beside a residual stream.

A round is ``GatedMemory.forward(x, remember=True)`` in inference: Q = batch × sequence queries of width K are
answered from M slots, then written. Ops are those of the library, in its order; numbers are fp32. What is
written is new to the memory, as that asks for most. Extremes and counts of a few bytes are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Component
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.setting import CUDA, Setting, Settings, device, whole, word
from memplan.domain.trace import Phase
from memplan.programs import cosine, radix_select
from memplan.simulator.kernels import HOST
from memplan.simulator.tensor import Tape, Tensor

NAME = "episodic_memory"
SUMMARY = "a bank of keys and values, read and written by cosine similarity in inference"

MATMUL, BROADCAST = "matmul", "broadcast"
INDEX, NUMBER = Dtype.INT64, Dtype.FP32

SETTINGS: tuple[Setting, ...] = (
    Setting(name="memory_size", summary="slots of the bank"),
    Setting(name="key_size", summary="width of keys, values and the residual stream"),
    Setting(name="batch", summary="sequences at once", default=8),
    Setting(name="sequence", summary="tokens of a sequence", default=1024),
    Setting(
        name="similarity",
        summary="how queries and keys are compared",
        default=MATMUL,
        choices=(MATMUL, BROADCAST),
    ),
    Setting(
        name="write_chunk", summary="queries compared at once when writing; 0 for all", default=8, least=0
    ),
    Setting(
        name="read_chunk", summary="queries compared at once when reading; 0 for all", default=64, least=0
    ),
    Setting(name="neighbours", summary="slots an answer is made of", default=8, most=1024),
    device(CUDA),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Q queries, M slots of width K, k neighbours."""

    queries: int
    slots: int
    width: int
    neighbours: int
    broadcast: bool

    @classmethod
    def of(cls, settings: Settings) -> Sizes:
        """Those of complete settings."""
        slots = whole(settings, "memory_size")
        return cls(
            queries=whole(settings, "batch") * whole(settings, "sequence"),
            slots=slots,
            width=whole(settings, "key_size"),
            neighbours=min(whole(settings, "neighbours"), slots),
            broadcast=word(settings, "similarity") == BROADCAST,
        )

    def chunks(self, chunk: int) -> Iterator[int]:
        """The first two chunks and the last, if that is smaller: all between them are like the second."""
        step = min(chunk, self.queries) or self.queries
        count, rest = divmod(self.queries, step)
        yield from (step for _ in range(min(count, 2)))
        if rest:
            yield rest


def problem(_settings: Settings, /) -> tuple[str, str] | None:
    """Nothing: a chunk larger than the queries means all of them, and so with neighbours and slots."""
    return None


def run(settings: Settings, tape: Tape, /) -> object:
    """The bank and the gate, and a round."""
    sizes = Sizes.of(settings)
    tape.grad_enabled = False
    kept = _load(sizes, tape)
    tape.trace.enter(Phase.FORWARD)
    if tape.capability != HOST:
        # Earlier rounds have taken the workspaces: of the gate, and of comparing by matmul.
        tape.take_workspace("cublaslt")
        if not sizes.broadcast:
            tape.take_workspace()
    _forward(sizes, settings, tape)
    return kept


def _load(sizes: Sizes, tape: Tape) -> list[Tensor]:
    """``Bank.__init__`` and the linear layer of ``GatedMemory``."""
    tape.component, tape.scope = "memory_bank", "bank"
    rows = [tape.empty((sizes.slots, sizes.width), NUMBER, name) for name in ("keys", "values")]
    counts = [tape.empty((sizes.slots,), INDEX, name) for name in ("hits", "last_used")]
    tape.component, tape.scope = "gate", "gate"
    weight = tape.empty((1, sizes.width), NUMBER, "weight")
    return [*rows, *counts, weight, tape.empty((1,), NUMBER, "bias")]


def _forward(sizes: Sizes, settings: Settings, tape: Tape) -> None:
    """``GatedMemory.forward``."""
    tape.component, tape.scope = "residual_stream", ""
    x = tape.empty((sizes.queries, sizes.width), NUMBER, "input")
    recalled = _read(sizes, whole(settings, "read_chunk"), tape)
    _write(sizes, whole(settings, "write_chunk"), tape)
    tape.component, tape.scope = "gate", "gate"
    linear = tape.empty((sizes.queries, 1), NUMBER, "addmm")
    opened = tape.empty((sizes.queries, 1), NUMBER, "sigmoid")
    del linear
    gated = tape.empty((sizes.queries, sizes.width), NUMBER, "mul")
    del opened
    tape.component = "residual_stream"
    added = tape.empty((sizes.queries, sizes.width), NUMBER, "add")
    del gated, added, recalled, x


def _read(sizes: Sizes, chunk: int, tape: Tape) -> Tensor:
    """``reading.recall``: what it returns is there from the start; the values stay."""
    tape.component, tape.scope = "recalled", "read"
    values = tape.empty((sizes.queries, sizes.width), NUMBER, "values")
    similar = tape.empty((sizes.queries, sizes.neighbours), NUMBER, "similarity")
    slots = tape.empty((sizes.queries, sizes.neighbours), INDEX, "slots")
    tape.component = "similarity"
    keys = _unit_keys(sizes, tape)
    for count in sizes.chunks(chunk):
        _answer(sizes, count, tape)
    del keys
    for count in sizes.chunks(chunk):
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


def _write(sizes: Sizes, chunk: int, tape: Tape) -> None:
    """``writing.place``: the best slot of every query; then ``writing.carry_out``."""
    tape.component, tape.scope = "similarity", "write"
    best = tape.empty((sizes.queries,), NUMBER, "full")
    slots = tape.empty((sizes.queries,), INDEX, "zeros")
    keys = _unit_keys(sizes, tape)
    for count in sizes.chunks(chunk):
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
    stored = Sizes(
        queries=min(sizes.queries, sizes.slots),
        slots=sizes.slots,
        width=sizes.width,
        neighbours=sizes.neighbours,
        broadcast=sizes.broadcast,
    )
    for count in (*stored.chunks(chunk), *stored.chunks(chunk)):
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


def disk(_settings: Settings, /) -> tuple[Component, ...]:
    """None: a memory is saved when somebody asks for it."""
    return ()


def mapped(_settings: Settings, /) -> int:
    """Nothing."""
    return 0


def options(settings: Settings, /) -> tuple[tuple[Option, ...], ...]:
    """Another form of the similarity, and smaller chunks; what is computed stays the same."""
    forms: tuple[Option, ...] = ()
    if Sizes.of(settings).broadcast:
        reason = "multiplies normalised rows, without three tensors of queries × slots × width"
        forms = (Option(changes={"similarity": MATMUL}, harm=Harm.EXACT, reason=reason),)
    return forms, _smaller(settings, "read_chunk", "read"), _smaller(settings, "write_chunk", "written")


def _smaller(settings: Settings, name: str, done: str) -> tuple[Option, ...]:
    queries = Sizes.of(settings).queries
    now = min(whole(settings, name), queries) or queries
    return tuple(
        Option(
            changes={name: 1 << power},
            harm=Harm.EXACT,
            reason=f"compares {1 << power} queries at once when memory is {done}; the result is the same",
        )
        for power in range((now - 1).bit_length() - 1, -1, -1)
    )


FLOPS, BANDWIDTH, LAUNCH = 15e12, 5e11, 5e-6
"""A GPU to compare settings on: fp32 products and bytes per second, and seconds until a kernel starts."""

KERNELS = 12
"""Kernels of a chunk, about."""


def work(settings: Settings, /) -> float:
    """Seconds of comparing in a round, roughly: bytes moved or products made, and kernels launched.

    Broadcast writes three tensors of Q × M × K numbers and reads each again, beside both operands. A product
    reads all keys for every chunk, and writes and reads the similarities.
    """
    sizes = Sizes.of(settings)
    pairs = sizes.queries * sizes.slots
    seconds = 0.0
    for name in ("read_chunk", "write_chunk"):
        step = min(whole(settings, name), sizes.queries) or sizes.queries
        chunks = -(-sizes.queries // step)
        if sizes.broadcast:
            seconds += 4 * pairs * (8 * sizes.width + 8) / BANDWIDTH
        else:
            moved = 4 * (chunks * sizes.slots * sizes.width + 2 * pairs)
            seconds += max(2 * pairs * sizes.width / FLOPS, moved / BANDWIDTH)
        seconds += chunks * KERNELS * LAUNCH
    return seconds
