"""A decoder on a machine with little RAM: training on windows of a long context, then reading all of it.

``memplan.mechanisms.context`` on a CPU, in fp32. A round is a step of AdamW on one window, where it trains,
and then the whole context read by a decoder that caches keys and values, in memory or in mapped files. Two
chunks and two windows stand for all: each does to memory what the second did.
"""

from __future__ import annotations

from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Basis, Component
from memplan.domain.setting import Settings, whole, word
from memplan.domain.trace import Phase
from memplan.programs.context_cache import Layer
from memplan.programs.context_decoder import NUMBER, Decoder, Sizes
from memplan.programs.context_options import files, options, work
from memplan.programs.context_settings import (
    CACHED,
    NONE,
    SETTINGS,
    cached_tokens,
    problem,
    row_of,
    window_of,
)
from memplan.simulator.autograd import backward, each
from memplan.simulator.loss import log_softmax, nll_loss
from memplan.simulator.tensor import Tape, Tensor

__all__ = ["NAME", "SETTINGS", "SUMMARY", "disk", "mapped", "options", "problem", "run", "work"]

NAME = "large_context"
SUMMARY = "a long context on little RAM: windows, checkpoints, and a cache in mapped files"


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
        tape.component, tape.scope = "optimizer_state", "AdamW"
        kept += [
            tape.empty(parameter.shape, NUMBER, name)
            for parameter in decoder.parameters
            for name in ("exp_avg", "exp_avg_sq")
        ]
        _train(decoder, window_of(settings), tape)
    if settings["reading"] != NONE:
        _read(decoder, settings, tape)
    return kept


def disk(settings: Settings, /) -> tuple[Component, ...]:
    """The files of a mapped cache."""
    size = mapped(settings)
    return (Component(name="kv_cache", bytes=Bytes(size), basis=Basis.EXACT),) if size else ()


def mapped(settings: Settings, /) -> int:
    """All of them are mapped."""
    return files(settings)


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
    row, cache = row_of(settings), word(settings, "cache")
    layers = [
        Layer(tape, row, tokens=cached_tokens(settings), cache=cache)
        for _ in range(whole(settings, "layers"))
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
    context, hidden, window = whole(settings, "context"), whole(settings, "hidden"), window_of(settings)
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
