"""What ``memplan.mechanisms.episodic`` allocates when a full memory stands beside a residual stream.

A round is ``GatedMemory.forward(x, remember=True)`` in inference: Q = batch × sequence queries of width K are
answered from M slots, then written.
"""

from __future__ import annotations

from memplan.domain.estimate import Component
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.setting import CUDA, Setting, Settings, device
from memplan.domain.trace import Phase
from memplan.programs.episodic_round import BROADCAST, MATMUL, Sizes, forward, load
from memplan.simulator.tensor import Tape

NAME = "episodic_memory"
SUMMARY = "a bank of keys and values, read and written by cosine similarity in inference"

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


def problem(_settings: Settings, /) -> tuple[str, str] | None:
    """Nothing: a chunk larger than the queries means all of them, and so with neighbours and slots."""
    return None


def run(settings: Settings, tape: Tape, /) -> object:
    """The bank and the gate, and a round."""
    sizes = Sizes.of(settings)
    tape.grad_enabled = False
    kept = load(sizes, tape)
    tape.trace.enter(Phase.FORWARD)
    # Earlier rounds have taken the workspaces: of the gate, and of comparing by matmul.
    tape.take_workspace("cublaslt")
    if not sizes.broadcast:
        tape.take_workspace()
    forward(sizes, tape)
    return kept


def disk(_settings: Settings, /) -> tuple[Component, ...]:
    """None: a memory is saved when somebody asks for it."""
    return ()


def mapped(_settings: Settings, /) -> int:
    """Nothing."""
    return 0


def options(settings: Settings, /) -> tuple[tuple[Option, ...], ...]:
    """Another form of the similarity, and smaller chunks; what is computed stays the same."""
    forms: tuple[Option, ...] = ()
    sizes = Sizes.of(settings)
    if sizes.broadcast:
        reason = "multiplies normalised rows, without three tensors of queries × slots × width"
        forms = (Option(changes={"similarity": MATMUL}, harm=Harm.EXACT, reason=reason),)
    reading = _smaller("read_chunk", sizes.read_chunk, "read")
    return forms, reading, _smaller("write_chunk", sizes.write_chunk, "written")


def _smaller(name: str, now: int, done: str) -> tuple[Option, ...]:
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
    for chunk in (sizes.read_chunk, sizes.write_chunk):
        chunks = -(-sizes.queries // chunk)
        if sizes.broadcast:
            seconds += 4 * pairs * (8 * sizes.width + 8) / BANDWIDTH
        else:
            moved = 4 * (chunks * sizes.slots * sizes.width + 2 * pairs)
            seconds += max(2 * pairs * sizes.width / FLOPS, moved / BANDWIDTH)
        seconds += chunks * KERNELS * LAUNCH
    return seconds
