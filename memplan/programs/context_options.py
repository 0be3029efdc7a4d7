"""What can be changed about a decoder with a large context, and how long a round takes then."""

from __future__ import annotations

from math import isqrt

from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.setting import Settings, whole, word
from memplan.programs.context_cache import BITS, MAPPED, MEMORY
from memplan.programs.context_decoder import EXPANSION
from memplan.programs.context_settings import CACHED, NONE, WINDOWS, cached_tokens, row_of, window_of

LESS_AT_ONCE = "fewer tokens go through a layer at once; each still sees all before it"
ON_DISK = "keys and values are in files, and only those just read are in memory"
AGAIN = "of every {} only the input is kept, and the rest is computed again in backward"
SHORTER = "training sees {} tokens at once"
ROUNDED = "cached numbers of {} bits"

_HALVINGS = (1, 2, 3, 4, 6)
"""How often a window may be cut in half."""

_FILE, _MEMORY = 100, 10
"""Operations in the time that a byte is read from a file, or from memory: 100 GFLOPS, 1 and 10 GB/s."""


def files(settings: Settings) -> int:
    """Bytes of the files that a mapped cache is in."""
    if settings["cache"] != MAPPED or settings["reading"] == NONE:
        return 0
    return whole(settings, "layers") * row_of(settings).of(cached_tokens(settings))


def options(settings: Settings, /) -> tuple[tuple[Option, ...], ...]:
    """Chunks, a mapped cache and checkpoints change nothing; numbers of fewer bits, windows do.

    To read in windows is none of them: with a mapped cache, chunks take less, and tokens see everything.
    """
    kinds = [_intervals(settings), _windows(settings)] if settings["training"] else []
    if settings["reading"] != NONE:
        kinds += [_chunks(settings), _caches(settings), _stored(settings)]
    return tuple(tuple(kind) for kind in kinds if kind)


def work(settings: Settings, /) -> float:
    """Operations of a round: of training over all windows of the context, and of reading it.

    A product takes two for each weight and token, attention four for each pair of tokens and number of a
    head; backward takes twice that of forward, and checkpoints forward once more. A token in
    windows counts as often as windows have it.
    """
    context, window = whole(settings, "context"), window_of(settings)
    hidden, layers = whole(settings, "hidden"), whole(settings, "layers")
    width = whole(settings, "heads") * whole(settings, "head_dim")
    each_token = 2 * layers * (4 * width * hidden + 2 * EXPANSION * hidden * hidden)
    pair = 2 * layers * width
    total = 0.0
    if settings["training"]:
        passes = 4 if settings["interval"] else 3
        total += passes * context * (each_token + 2 * hidden * whole(settings, "vocab") + pair * window)
    if settings["reading"] == CACHED:
        total += context * (each_token + pair * context) + _rereading(settings)
    elif settings["reading"] == WINDOWS:
        times = window / (whole(settings, "stride") or window)
        total += times * context * (each_token + pair * window)
    return total


def _rereading(settings: Settings) -> float:
    """What it costs to read all that is cached so far once for every chunk, from files or into fp32."""
    context = whole(settings, "context")
    chunk = whole(settings, "chunk") or context
    moved = whole(settings, "layers") * row_of(settings).of(context) * (context / chunk - 1) / 2
    widened = _MEMORY if settings["stored"] != "fp32" else 0
    return moved * (widened + (_FILE if settings["cache"] == MAPPED else 0))


def _intervals(settings: Settings) -> list[Option]:
    layers = whole(settings, "layers")
    found = sorted({1, isqrt(layers - 1) + 1} - {settings["interval"]}, reverse=True)
    return [
        Option(
            changes={"interval": step},
            harm=Harm.EXACT,
            reason=AGAIN.format("block" if step == 1 else f"{step} blocks"),
        )
        for step in found
    ]


def _windows(settings: Settings) -> list[Option]:
    sizes = [(halvings, window_of(settings) >> halvings) for halvings in _HALVINGS]
    return [
        Option(
            changes={"window": size},
            harm=Harm.BEHAVIOUR,
            reason=SHORTER.format(f"{size:,}"),
            degree=halvings,
        )
        for halvings, size in sizes
        if size >= 1 and (size >= whole(settings, "stride"))
    ]


def _chunks(settings: Settings) -> list[Option]:
    chunk = whole(settings, "chunk") or cached_tokens(settings)
    return [
        Option(changes={"chunk": size}, harm=Harm.EXACT, reason=LESS_AT_ONCE)
        for size in (4096, 512)
        if size < chunk
    ]


def _caches(settings: Settings) -> list[Option]:
    found = []
    if settings["cache"] == MEMORY:
        found.append(Option(changes={"cache": MAPPED}, harm=Harm.EXACT, reason=ON_DISK))
    return found


def _stored(settings: Settings) -> list[Option]:
    bits, even = BITS[word(settings, "stored")], whole(settings, "head_dim") % 2 == 0
    return [
        Option(changes={"stored": name}, harm=Harm.NUMERIC, reason=ROUNDED.format(less))
        for name, less in (("int8", 8), ("int4", 4))
        if less < bits and even
    ]
