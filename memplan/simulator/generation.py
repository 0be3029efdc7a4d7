"""A call of ``generate`` in miniature: load, prefill, and the decode steps that differ from one another.

Source: ``_sample`` and ``_prefill`` in transformers src/transformers/generation/utils.py (5.23), greedy
decoding without padding. Shapes: token ids (B, S), logits (B, S, V).
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Protocol

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Generate, Workload
from memplan.simulator.cache import Cache
from memplan.simulator.folding import Fold
from memplan.simulator.tensor import Tape, Tensor

FIRST_STEPS = 2
"""Decode steps simulated after the prompt; of the others only the last, since each is like the one before
with one token more in the cache."""


class Model(Protocol):
    """What a family gives to generation."""

    def logits(self, tokens: Tensor, *, last: bool) -> Tensor:
        """Logits of all positions or of the last one."""

    def windows(self) -> list[int | None]:
        """The sliding windows of the layers that keep keys and values."""


def generate(
    workload: Workload,
    build: Callable[[Tape], Model],
    capability: tuple[int, int],
    fold: Fold | None = None,
) -> Trace:
    """The trace of loading a model and generating ``new_tokens`` tokens after a prompt, for all sequences.

    The prefill yields the first new token, so there are ``new_tokens - 1`` decode steps. ``capability`` is
    the GPU's compute capability; ``fold`` picks the layers to simulate, if not all. Garbage collection is
    off meanwhile: lifetimes follow from references.
    """
    tape = Tape(capability, fold=fold)
    collecting = gc.isenabled()
    gc.disable()
    try:
        tape.trace.enter(Phase.LOAD)
        model = build(tape)
        tape.grad_enabled = tape.training = False
        tape.autocast = workload.precision.autocast
        _run(tape, workload, model)
        tape.cache = None
        tape.casts.clear()
        trace = tape.trace.closed()
    finally:
        if collecting:
            gc.enable()
    return trace


def _run(tape: Tape, workload: Workload, model: Model) -> None:
    asked, batch = workload.generate, workload.batch.micro
    length = asked.prompt
    tape.trace.enter(Phase.PREFILL)
    tape.component, tape.scope = "activations", "inputs"
    tokens = tape.empty((batch, length), Dtype.INT64, "input_ids")
    positions = tape.empty((batch, length), Dtype.INT64, "position_ids")
    tape.cache = _cache(asked, model.windows())
    logits = _forward(tape, model, length, batch, last=asked.logits == "last")
    tape.cache.holds(None)
    tape.cache.decoding = True
    scores: Tensor | None = None
    for step in _steps(asked.new_tokens - 1):
        skipped = length + step - tokens.shape[1]
        if skipped:
            tape.cache.grow(skipped)
        positions = _longer(positions, skipped + 1)
        scores = _scores(logits)
        tokens = _longer(tokens, skipped + 1)
        del logits
        tape.trace.enter(Phase.DECODE)
        logits = _forward(tape, model, 1, batch, last=True)
    positions = _longer(positions, 1)
    scores = _scores(logits)
    tokens = _longer(tokens, 1)
    del logits, scores, positions, tokens


def _cache(asked: Generate, windows: list[int | None]) -> Cache:
    """The cache that ``cache_implementation`` names."""
    if asked.cache == "static":
        return Cache.preallocated(windows, asked.prompt + asked.new_tokens - 1)
    return Cache.quantized(len(windows)) if asked.cache == "quantized" else Cache.dynamic(windows)


def _steps(count: int) -> list[int]:
    """The decode steps that are simulated, by how many came before."""
    return sorted({*range(min(count, FIRST_STEPS)), *range(max(count - 1, 0), count)})


def _forward(tape: Tape, model: Model, length: int, batch: int, *, last: bool) -> Tensor:
    """One forward pass on a copy of its tokens (``prepare_inputs_for_generation``)."""
    tape.component, tape.scope = "activations", "inputs"
    copied = tape.empty((batch, length), Dtype.INT64, "clone")
    return model.logits(copied, last=last)


def _longer(tokens: Tensor, by: int) -> Tensor:
    """``torch.cat`` of token or position ids with those of the next token."""
    batch, length = tokens.shape
    tokens.tape.component, tokens.tape.scope = "activations", "inputs"
    return tokens.tape.empty((batch, length + by), Dtype.INT64, "cat")


def _scores(logits: Tensor) -> Tensor:
    """``outputs.logits[:, -1].to(copy=True, dtype=torch.float32)``, kept until the next step has its own."""
    batch, _, vocabulary = logits.shape
    logits.tape.component, logits.tape.scope = "logits_and_loss", "scores"
    return logits.tape.empty((batch, vocabulary), Dtype.FP32, "to")
