"""Many tokens at once: one product per layer instead of one per token, at the price of memory.

Only the recurrence itself is left token by token, since each state needs the one before.
"""

from __future__ import annotations

from math import inf

import torch

from memplan.domain.errors import FieldError
from memplan.mechanisms.buffers.loop import TokenLoop, require_finite
from memplan.mechanisms.buffers.model import TokenModel


class BatchedLoop(TokenLoop):
    """Takes C tokens at once, and C·max(E + S, S + O, O + V) numbers with them, however many there are; at a
    temperature 2·V may be the larger.

    Gives what ``AllocatingLoop`` gives to rounding, since products of many rows add in another order; noise
    is drawn row by row, so that the draws are the same.

    Args:
        chunk: C, tokens at once; None for all of them.

    Raises:
        FieldError: ``chunk`` is not a positive whole number.
    """

    def __init__(
        self, model: TokenModel, *, temperature: float | None = None, chunk: int | None = None
    ) -> None:
        super().__init__(model, temperature=temperature)
        if chunk is not None and chunk < 1:
            raise FieldError(
                f"chunk is {chunk!r}", expected="a positive whole number, or None for all tokens"
            )
        self.chunk = chunk

    def _run(
        self, ids: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        chunk = self.chunk or len(ids)
        current = state.clone()
        for first in range(0, len(ids), chunk):
            part = slice(first, first + chunk)
            require_finite(self._several(ids[part], current, tokens[part], generator), first)
        state.copy_(current)

    def _several(
        self, ids: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor, generator: torch.Generator | None
    ) -> float:
        """Up to C tokens; what is returned is finite if the largest score of each is."""
        weights = self.model
        embedded = torch.index_select(weights.embedding, 0, ids)
        states = torch.addmm(weights.input_bias, embedded, weights.input.t())
        # Each tensor goes as soon as the next is there: the peak is that of the two largest neighbours.
        del embedded
        before = state
        for row in states.split(1):
            before = row.addmm_(before, weights.recurrent.t()).tanh_()
        state.copy_(before)
        output = torch.addmm(weights.output_bias, states, weights.output.t())
        del states, before, row
        scores = torch.mm(output, weights.decoder.t())
        del output
        if self.temperature is not None:
            _draw(scores, self.temperature, generator)
        best, token = torch.max(scores, 1)
        tokens.copy_(token)
        return float(torch.linalg.vector_norm(best, inf))


def _draw(scores: torch.Tensor, temperature: float, generator: torch.Generator | None) -> None:
    """As ``AllocatingLoop`` draws, with one tensor for the noise beside the scores."""
    torch.softmax(scores.div_(temperature), 1, out=scores)
    noise = torch.empty_like(scores)
    for row in noise.split(1):
        row.exponential_(generator=generator)
    scores.div_(noise)
