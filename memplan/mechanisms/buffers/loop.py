"""What the three loops have in common: what they are called with, and what they refuse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import isfinite

import torch

from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.buffers.model import TokenModel


class TokenLoop(ABC):
    """Runs a model over T tokens, one recurrent step each, and says what follows each of them.

    Args:
        model: the weights.
        temperature: draw from softmax(logits / temperature); None takes the largest logit.

    Raises:
        FieldError: the temperature is not a positive number.
    """

    def __init__(self, model: TokenModel, *, temperature: float | None = None) -> None:
        if temperature is not None and not (isfinite(temperature) and temperature > 0):
            raise FieldError(f"the temperature is {temperature!r}", expected="a positive number, or None")
        self.model = model
        self.temperature = temperature

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def __call__(
        self,
        ids: torch.Tensor,
        state: torch.Tensor,
        *,
        out: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """The token after each of ``ids``; nothing else is allocated for the caller.

        Args:
            ids: tokens, (T) int64, T at least 1.
            state: the state before the first, (1, S); afterwards that after the last.
            out: where to write the result, (T) int64. Default: a tensor of 8·T bytes.
            generator: what draws; one of the model's device.

        Raises:
            FieldError: a tensor has the wrong shape or type, or a token is not in the vocabulary.
            InputError: the scores of a token are not finite. ``state`` is as it was, after a FieldError too.
        """
        self._fits(ids, state)
        tokens = torch.empty_like(ids) if out is None else out
        if tokens.shape != ids.shape or tokens.dtype != torch.int64:
            raise FieldError(
                f"out has the shape {tuple(tokens.shape)}, {tokens.dtype}",
                expected=f"{tuple(ids.shape)}, torch.int64",
            )
        try:
            self._run(ids, state, tokens, generator)
        except IndexError as error:
            size = self.model.sizes.vocabulary
            raise FieldError(
                f"a token is not in the vocabulary ({error})", expected=f"0 to {size - 1}"
            ) from error
        return tokens

    @abstractmethod
    def _run(
        self, ids: torch.Tensor, state: torch.Tensor, tokens: torch.Tensor, generator: torch.Generator | None
    ) -> None:
        """Fill ``tokens`` and renew ``state``."""

    def _fits(self, ids: torch.Tensor, state: torch.Tensor) -> None:
        if ids.dim() != 1 or ids.dtype != torch.int64 or not ids.numel():
            raise FieldError(
                f"ids have the shape {tuple(ids.shape)}, {ids.dtype}",
                expected="(T,), torch.int64, with at least one token",
            )
        sides = (1, self.model.sizes.state)
        if tuple(state.shape) != sides or state.dtype != self.model.dtype:
            raise FieldError(
                f"the state has the shape {tuple(state.shape)}, {state.dtype}",
                expected=f"{sides}, {self.model.dtype}",
            )


def require_finite(best: float, first: int) -> None:
    """Refuse what softmax and max carry through: the largest of some scores that hold NaN is NaN.

    Raises:
        InputError: ``best``, the largest score at or after token ``first``, is not a finite number.
    """
    if not isfinite(best):
        raise InputError(
            f"the scores of token {first} or one after it are not finite ({best})",
            hint="look for NaN or infinity in the weights and the state",
        )
