"""The loop as one writes it first: every result is a new tensor, for every token."""

from __future__ import annotations

import torch

from memplan.mechanisms.buffers.loop import TokenLoop, require_finite


class AllocatingLoop(TokenLoop):
    """Allocates E + 4·S + O + V numbers per token and two for its choice; at a temperature 4·V more.

    Dividing by a Python number makes two tensors of one number as well, float64 and then the logits' type.
    """

    def _run(
        self, ids: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        weights = self.model
        current = state
        for index in range(len(ids)):
            embedded = torch.index_select(weights.embedding, 0, ids[index : index + 1])
            given = torch.addmm(weights.input_bias, embedded, weights.input.t())
            kept = torch.mm(current, weights.recurrent.t())
            total = given + kept
            current = torch.tanh(total)
            output = torch.addmm(weights.output_bias, current, weights.output.t())
            scores = torch.mm(output, weights.decoder.t())
            if self.temperature is not None:
                scores = _drawn(scores, self.temperature, generator)
            best, token = torch.max(scores, 1)
            require_finite(best.item(), index)
            tokens[index : index + 1] = token
        state.copy_(current)


def _drawn(logits: torch.Tensor, temperature: float, generator: torch.Generator | None) -> torch.Tensor:
    """Scores whose largest is a draw: probabilities over exponential noise, as ``torch.multinomial`` does."""
    scaled = logits / temperature
    probabilities = torch.softmax(scaled, 1)
    noise = torch.empty_like(probabilities).exponential_(generator=generator)
    return probabilities / noise
