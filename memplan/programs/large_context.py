"""A decoder on a machine with little RAM: training on windows of a long context, then reading all of it.

``memplan.mechanisms.context`` on a CPU, in fp32. A round is a step of AdamW on one window, where it trains,
and then the whole context read by a decoder that caches keys and values, in memory or in mapped files. Two
chunks and two windows stand for all: each does to memory what the second did.
"""

from __future__ import annotations

from math import isqrt

from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Basis, Component
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.setting import CPU, Setting, Settings, device, whole, word
from memplan.domain.trace import Phase
from memplan.programs.context_cache import BITS, MAPPED, MEMORY, Layer, Row
from memplan.programs.context_decoder import EXPANSION, NUMBER, Decoder, Sizes
from memplan.simulator.autograd import backward, each
from memplan.simulator.loss import log_softmax, nll_loss
from memplan.simulator.tensor import Tape, Tensor

NAME = "large_context"
SUMMARY = "a long context on little RAM: windows, checkpoints, and a cache in mapped files"

CACHED, WINDOWS, NONE = "cached", "windows", "none"
SETTINGS: tuple[Setting, ...] = (
    Setting(name="layers", summary="blocks of the decoder", most=1000),
    Setting(name="heads", summary="heads of attention", most=1024),
    Setting(name="head_dim", summary="width of a head", default=64, most=1024),
    Setting(name="hidden", summary="width of the residual stream", most=2**20),
    Setting(name="vocab", summary="tokens there are", most=2**24),
    Setting(name="context", summary="tokens to read", most=2**30),
    Setting(
        name="window", summary="tokens of a training step, and of windows; 0 for all", default=0, least=0
    ),
    Setting(
        name="stride", summary="tokens from one window to the next; 0 for the window", default=0, least=0
    ),
    Setting(name="training", summary="whether it trains", default=True),
    Setting(
        name="interval",
        summary="blocks between checkpoints; 0 keeps all activations",
        default=0,
        least=0,
        most=1000,
    ),
    Setting(
        name="reading",
        summary="how the context is read: all of it before each token, or windows that are merged",
        default=CACHED,
        choices=(CACHED, WINDOWS, NONE),
    ),
    Setting(name="chunk", summary="tokens read at once; 0 for all", default=0, least=0),
    Setting(name="cache", summary="where keys and values are", default=MEMORY, choices=(MEMORY, MAPPED)),
    Setting(name="stored", summary="what a cached number is", default="fp32", choices=tuple(BITS)),
    device(CPU),
)

LESS_AT_ONCE = "fewer tokens go through a layer at once; each still sees all before it"
ON_DISK = "keys and values are in files, and only those just read are in memory"
AGAIN = "of every {} only the input is kept, and the rest is computed again in backward"
SHORTER = "training sees {} tokens at once"
APART = "tokens see nothing before their window"
ROUNDED = "cached numbers of {} bits"

_OVERLAP = 2
"""Windows that overlap by a half have a stride of the window over this."""

_DISK = 100
"""Operations in the time that a byte is read from a file in the page cache: 100 GFLOPS and 1 GB/s."""


def problem(settings: Settings, /) -> tuple[str, str] | None:
    """Windows beyond the context, strides beyond the window, intervals beyond the layers, a GPU."""
    window, context = _window(settings), whole(settings, "context")
    found = {
        "device": settings["device"] != CPU and "is for a run in host memory: set device: cpu",
        "window": window > context and f"of {window:,} tokens is wider than the context of {context:,}",
        "stride": whole(settings, "stride") > window
        and f"of {whole(settings, 'stride'):,} tokens leaves some between windows of {window:,}",
        "interval": whole(settings, "interval") > whole(settings, "layers")
        and f"is beyond the {whole(settings, 'layers')} layers",
        "stored": BITS[word(settings, "stored")] == 4
        and whole(settings, "head_dim") % 2 == 1
        and "as int4 wants heads of an even width",
    }
    return next(((name, said) for name, said in found.items() if said), None)


def run(settings: Settings, tape: Tape, /) -> object:
    """The decoder and its optimizer's states, a training step, and the context read."""
    sizes = Sizes(
        layers=whole(settings, "layers"),
        heads=whole(settings, "heads"),
        head_dim=whole(settings, "head_dim"),
        hidden=whole(settings, "hidden"),
        vocab=whole(settings, "vocab"),
        interval=whole(settings, "interval"),
    )
    decoder = Decoder(tape, sizes)
    kept: list[object] = [decoder]
    if settings["training"]:
        tape.component = "optimizer_state"
        kept += [
            tape.empty(parameter.shape, NUMBER, name)
            for parameter in decoder.parameters
            for name in ("exp_avg", "exp_avg_sq")
        ]
        _train(decoder, _window(settings), tape)
    if settings["reading"] != NONE:
        _read(decoder, settings, tape)
    return kept


def disk(settings: Settings, /) -> tuple[Component, ...]:
    """The files of a mapped cache."""
    size = mapped(settings)
    return (Component(name="kv_cache", bytes=Bytes(size), basis=Basis.EXACT),) if size else ()


def mapped(settings: Settings, /) -> int:
    """All of them are mapped."""
    if settings["cache"] != MAPPED or settings["reading"] == NONE:
        return 0
    return whole(settings, "layers") * _row(settings).of(_cached(settings))


def options(settings: Settings, /) -> tuple[tuple[Option, ...], ...]:
    """Chunks, a mapped cache and checkpoints change nothing; numbers of fewer bits, windows do."""
    kinds = [_intervals(settings), _windows(settings)] if settings["training"] else []
    if settings["reading"] != NONE:
        kinds += [_chunks(settings), _caches(settings), _stored(settings)]
    return tuple(tuple(kind) for kind in kinds if kind)


def work(settings: Settings, /) -> float:
    """Operations of a round: of training over all windows of the context, and of reading it.

    A product takes two for each weight and token, attention four for each pair of tokens and number of a
    head; backward takes twice that of forward, and checkpoints forward once more. Bytes that come from mapped
    files count as ``_DISK`` operations each, a token in windows as often as windows have it.
    """
    context, window = whole(settings, "context"), _window(settings)
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
    """What reading the cache once for every chunk costs where it is in files or quantized."""
    chunk = whole(settings, "chunk") or whole(settings, "context")
    moved = mapped(settings) * whole(settings, "context") / chunk / 2
    # Numbers of fewer bits are made fp32 again: a pass over them, counted like one of fp32 bytes.
    widened = 0 if settings["stored"] == "fp32" else moved
    return _DISK * (moved + widened) / (1 if settings["cache"] == MAPPED else 10)


def _window(settings: Settings) -> int:
    return whole(settings, "window") or whole(settings, "context")


def _cached(settings: Settings) -> int:
    """Tokens that are cached at once."""
    return _window(settings) if settings["reading"] == WINDOWS else whole(settings, "context")


def _row(settings: Settings) -> Row:
    return Row(
        heads=whole(settings, "heads"),
        head_dim=whole(settings, "head_dim"),
        stored=word(settings, "stored"),
    )


def _train(decoder: Decoder, window: int, tape: Tape) -> None:
    """``cross_entropy(decoder(tokens[:-1]), tokens[1:])``, backward, a step of AdamW one by one."""
    tape.trace.enter(Phase.FORWARD)
    tape.component, tape.scope = "activations", "inputs"
    tokens = tape.empty((1, window), Dtype.INT64, "randint")
    logits = decoder.forward(tokens)
    tape.trace.enter(Phase.LOSS)
    loss = nll_loss(log_softmax(logits), tokens)
    del logits
    tape.trace.enter(Phase.BACKWARD)
    backward(loss)
    del loss
    tape.trace.enter(Phase.OPTIMIZER)
    tape.component, tape.scope = "temporaries", "optimizer"
    denominator: Tensor | None = None
    for leaf in each(decoder.leaves):
        # ``(exp_avg_sq.sqrt() / bias_correction2_sqrt).add_(eps)`` of ``_single_tensor_adam``.
        root = tape.empty(leaf.shape, NUMBER, "sqrt")
        denominator = tape.empty(leaf.shape, NUMBER, "div")
        del root
    del denominator
    for leaf in decoder.leaves:
        leaf.grad = None


def _read(decoder: Decoder, settings: Settings, tape: Tape) -> None:
    """The context through the cache, or window after window with their outputs merged."""
    tape.trace.enter(Phase.PREFILL)
    tape.grad_enabled = False
    tape.component, tape.scope = "activations", "inputs"
    context, chunk = whole(settings, "context"), whole(settings, "chunk")
    tokens = tape.empty((context,), Dtype.INT64, "randint")
    row, cache = _row(settings), word(settings, "cache")
    layers = [
        Layer(tape, row, tokens=_cached(settings), cache=cache) for _ in range(whole(settings, "layers"))
    ]
    if settings["reading"] == CACHED:
        hidden = decoder.read(context, layers, chunk)
    else:
        hidden = _merged(decoder, settings, layers, tape)
    tape.trace.enter(Phase.DECODE)
    _ = tape.empty((1, whole(settings, "vocab")), NUMBER, "mm")
    del _, hidden, layers, tokens


def _merged(decoder: Decoder, settings: Settings, layers: list[Layer], tape: Tape) -> Tensor:
    """``Merger``: the mean so far, how many windows are in it, and the difference that the next makes."""
    context, hidden, window = whole(settings, "context"), whole(settings, "hidden"), _window(settings)
    merged: Tensor | None = None
    counts: Tensor | None = None
    for _ in range(2 if window < context else 1):
        output = decoder.read(window, layers, whole(settings, "chunk"))
        tape.component = "hidden_states"
        if merged is None:
            merged = tape.empty((context, hidden), NUMBER, "full")
            counts = tape.empty((context, 1), NUMBER, "zeros")
        difference = tape.empty((window, hidden), NUMBER, "sub")
        del output, difference
        for layer in layers:
            layer.chunks = 0
    del counts
    assert merged is not None
    return merged


def _intervals(settings: Settings) -> list[Option]:
    layers = whole(settings, "layers")
    found = sorted({1, isqrt(layers - 1) + 1, max(1, layers // 2)} - {settings["interval"]}, reverse=True)
    return [
        Option(
            changes={"interval": step},
            harm=Harm.EXACT,
            reason=AGAIN.format("block" if step == 1 else f"{step} blocks"),
        )
        for step in found
    ]


def _windows(settings: Settings) -> list[Option]:
    window = _window(settings)
    sizes = [(halvings, window >> halvings) for halvings in (1, 2, 3, 4, 5, 6, 8, 10)]
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
    chunk = whole(settings, "chunk") or _cached(settings)
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
