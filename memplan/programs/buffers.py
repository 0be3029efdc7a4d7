"""A loop over tokens: what ``memplan.mechanisms.buffers`` allocates, and what could be set otherwise."""

from __future__ import annotations

from memplan.domain.bytes import Bytes
from memplan.domain.churn import Churn, Renewal
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Component
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.setting import CPU, Setting, Settings, whole
from memplan.domain.trace import Phase
from memplan.programs import token_loop
from memplan.simulator.kernels import HOST
from memplan.simulator.tensor import Tape

NAME = "buffers"
SUMMARY = "a loop over tokens: results made for each, written into buffers, or made for many at once"
PER_TOKEN, PREALLOCATED, BATCHED = "per_token", "preallocated", "batched"
SETTINGS: tuple[Setting, ...] = (
    Setting(name="tokens", summary="length of the sequence", most=2**31),
    Setting(name="vocabulary", summary="entries of the vocabulary"),
    Setting(name="embedding", summary="width of an embedding"),
    Setting(name="state", summary="width of the recurrent state"),
    Setting(name="output", summary="width of the output that is decoded"),
    Setting(
        name="buffers",
        summary="where results go",
        default=PER_TOKEN,
        choices=(PER_TOKEN, PREALLOCATED, BATCHED),
    ),
    Setting(name="chunk", summary="tokens at once when batched; 0 is all", default=0, least=0),
    Setting(
        name="decoding",
        summary="how a token is chosen",
        default="greedy",
        choices=("greedy", token_loop.SAMPLED),
    ),
    Setting(name="may_allocate", summary="whether memory may be made anew for every token", default=True),
    Setting(name="device", summary="where its tensors are", default=CPU, choices=(CPU,)),
)

BALANCE = 10
"""Operations in fp32 that a processor does in the time it moves a byte: about that of one with vector units
and two channels of memory. It decides how much faster batches are, not whether."""

_ROUNDS = 2
"""Tokens after which a loop does the same again: the second frees what the first has left."""


def problem(settings: Settings) -> tuple[str, str] | None:
    """A chunk is no longer than the sequence."""
    chunk, tokens = whole(settings, "chunk"), whole(settings, "tokens")
    return ("chunk", f"is {chunk}, and there are {tokens} tokens") if chunk > tokens else None


def run(settings: Settings, tape: Tape) -> object:
    """Weights, tokens and the state; then the loop, until it does the same again."""
    kept = [*token_loop.weights(settings, tape), *token_loop.given(settings, tape)]
    form, tokens = settings["buffers"], whole(settings, "tokens")
    if form == PREALLOCATED:
        kept += token_loop.buffers(settings, tape)
    tape.trace.enter(Phase.DECODE)
    if form == PER_TOKEN:
        token_loop.each(settings, tape, min(tokens, _ROUNDS))
    elif form == BATCHED:
        tape.component = "results"
        state = tape.empty((1, whole(settings, "state")), Dtype.FP32, "clone")
        token_loop.several(settings, tape, _chunk(settings))
        del state
    return kept


def churn(settings: Settings) -> Churn:
    """Allocations of one pass over all tokens."""
    form, tokens, chunk = settings["buffers"], whole(settings, "tokens"), _chunk(settings)
    if form == PREALLOCATED:
        return Churn(count=0, bytes=Bytes(0))
    tape = Tape(HOST)
    if form == PER_TOKEN:
        token_loop.each(settings, tape, 1)
        return token_loop.made(tape).times(tokens)
    token_loop.several(settings, tape, chunk)
    found = token_loop.made(tape).times(tokens // chunk)
    if tokens % chunk:
        rest = Tape(HOST)
        token_loop.several(settings, rest, tokens % chunk)
        found += token_loop.made(rest)
    return found + Churn(count=1, bytes=Bytes(whole(settings, "state") * Dtype.FP32.itemsize))


def renewal(settings: Settings) -> Renewal | None:
    """What is made for every token; None when buffers are, or where there is one token only."""
    tokens = whole(settings, "tokens")
    alone = settings["buffers"] == BATCHED and _chunk(settings) == 1
    if tokens == 1 or not (settings["buffers"] == PER_TOKEN or alone):
        return None
    made = churn(settings)
    held = Tape(HOST)
    token_loop.buffers(settings, held)
    needed = token_loop.made(held).bytes
    return Renewal(
        setting="chunk" if alone else "buffers",
        message=f"{made.count // tokens} results are made anew for each of {tokens:,} tokens: {made.count:,} "
        f"allocations, {made.bytes.rounded()} in all, where buffers of {needed.rounded()} would do",
        fix=f"set buffers: {PREALLOCATED}, or {BATCHED} for tokens that are known beforehand",
        refused=not settings["may_allocate"],
    )


def disk(settings: Settings) -> tuple[Component, ...]:
    """No files."""
    del settings
    return ()


def mapped(settings: Settings) -> int:
    """Nothing is."""
    del settings
    return 0


def options(settings: Settings) -> tuple[tuple[Option, ...], ...]:
    """Buffers give the same bits; products of many rows add up in another order. Chunks as powers of two."""
    form, chunk = settings["buffers"], _chunk(settings)
    powers = [2**power for power in range(whole(settings, "tokens").bit_length(), 0, -1)]
    if form == BATCHED:
        smaller = [
            Option(changes={"chunk": size}, harm=Harm.EXACT, reason="fewer tokens at once")
            for size in powers
            if size < chunk
        ]
        return ((*smaller, _preallocated(settings, Harm.NUMERIC)),)
    if form == PREALLOCATED:
        return ()
    sizes = [0, *(size for size in powers if size < whole(settings, "tokens"))]
    batched = [
        Option(
            changes={"buffers": BATCHED} | ({"chunk": size} if size != settings["chunk"] else {}),
            harm=Harm.NUMERIC,
            reason="weights are read once for many tokens",
        )
        for size in sizes
    ]
    return ((_preallocated(settings, Harm.EXACT), *batched),)


def work(settings: Settings) -> float:
    """Bytes that a pass moves, and its operations at ``BALANCE`` of them to a byte.

    Token by token every weight is read for each; in a batch only those of the recurrence are, as each state
    needs the one before. To allocate is a matter of a list of free blocks, and counts as nothing.
    """
    tokens, state = whole(settings, "tokens"), whole(settings, "state")
    widths = whole(settings, "embedding"), whole(settings, "output"), whole(settings, "vocabulary")
    embedding, output, vocabulary = widths
    once = state * embedding + output * state + vocabulary * output
    passes = -(-tokens // _chunk(settings)) if settings["buffers"] == BATCHED else tokens
    moved = Dtype.FP32.itemsize * (passes * once + tokens * (state * state + state + sum(widths)))
    return moved + 2 * tokens * (once + state * state) / BALANCE


def _chunk(settings: Settings) -> int:
    return whole(settings, "chunk") or whole(settings, "tokens")


def _preallocated(settings: Settings, harm: Harm) -> Option:
    reason = f"every result has its place: {churn(settings).count:,} allocations a pass fewer"
    return Option(changes={"buffers": PREALLOCATED}, harm=harm, reason=reason)
