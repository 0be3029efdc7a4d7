"""The loop that allocates nothing: every op writes into a buffer that was there before the first token."""

from __future__ import annotations

import torch

from memplan.mechanisms.buffers.loop import TokenLoop, require_finite
from memplan.mechanisms.buffers.model import TokenModel
from memplan.mechanisms.buffers.pool import Buffers, BufferShape, Lent


class PreallocatedLoop(TokenLoop):
    """Takes E + 3·S + O + V + 1 numbers once, at a temperature V + 1 more, and then nothing per token.

    Gives bit for bit what ``AllocatingLoop`` gives: the ops are the same, in the same order. Calls must not
    overlap; ``buffers`` is the pool.
    """

    def __init__(self, model: TokenModel, *, temperature: float | None = None) -> None:
        super().__init__(model, temperature=temperature)
        self.buffers = Buffers(_shapes(model, drawing=temperature is not None), device=model.device)
        if temperature is not None:
            # A Python number would become a new tensor with every division.
            with torch.no_grad(), self.buffers.lent() as lent:
                lent["temperature"].fill_(temperature)

    def _run(
        self, ids: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        weights = self.model
        with self.buffers.lent() as lent:
            embedded, given, kept = lent["embedded"], lent["given"], lent["kept"]
            current, output, scores = lent.put("state", state), lent["output"], lent["scores"]
            best = lent["best"]
            for index in range(len(ids)):
                torch.index_select(weights.embedding, 0, ids[index : index + 1], out=embedded)
                torch.addmm(weights.input_bias, embedded, weights.input.t(), out=given)
                torch.mm(current, weights.recurrent.t(), out=kept)
                torch.add(given, kept, out=given)
                torch.tanh(given, out=current)
                torch.addmm(weights.output_bias, current, weights.output.t(), out=output)
                torch.mm(output, weights.decoder.t(), out=scores)
                if self.temperature is not None:
                    _draw(scores, lent, generator)
                torch.max(scores, 1, out=(best, tokens[index : index + 1]))
                require_finite(best.item(), index)
            state.copy_(current)


def _draw(scores: torch.Tensor, lent: Lent, generator: torch.Generator | None) -> None:
    """As ``AllocatingLoop`` draws, in place."""
    torch.div(scores, lent["temperature"], out=scores)
    torch.softmax(scores, 1, out=scores)
    noise = lent["noise"].exponential_(generator=generator)
    torch.div(scores, noise, out=scores)


def _shapes(model: TokenModel, *, drawing: bool) -> dict[str, BufferShape]:
    sizes = model.sizes
    widths = {
        "embedded": sizes.embedding,
        "given": sizes.state,
        "kept": sizes.state,
        "state": sizes.state,
        "output": sizes.output,
        "scores": sizes.vocabulary,
    }
    shapes = {name: BufferShape(sides=(1, width), dtype=model.dtype) for name, width in widths.items()}
    shapes["best"] = BufferShape(sides=(1,), dtype=model.dtype)
    if drawing:
        shapes["noise"] = BufferShape(sides=(1, sizes.vocabulary), dtype=model.dtype)
        shapes["temperature"] = BufferShape(sides=(1,), dtype=model.dtype)
    return shapes
