"""What a token goes through, one after the other: embedding, recurrent step, output, decoder.

Shapes: T tokens, V vocabulary, E embedding, S state, O output. One step with the state ``s`` (1, S)::

    x = embedding[token]                              (1, E)
    s = tanh(x @ input.T + input_bias + s @ recurrent.T)  (1, S)
    o = s @ output.T + output_bias                    (1, O)
    logits = o @ decoder.T                            (1, V)

The next token is the one with the largest logit or, at a temperature t, a draw from softmax(logits / t).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import sqrt

import torch

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSizes:
    """Numbers of entries: of the vocabulary, and the widths of embedding, state and output.

    Raises:
        FieldError: one is not a positive whole number.
    """

    vocabulary: int
    embedding: int
    state: int
    output: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise FieldError(f"{field.name} is {value!r}", expected="a positive whole number")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenModel:
    """The weights: ``embedding`` (V, E), ``input`` (S, E), ``input_bias`` (S), ``recurrent`` (S, S),
    ``output`` (O, S), ``output_bias`` (O), ``decoder`` (V, O). All of one floating type on one device.

    Raises:
        FieldError: shapes do not fit together, or types or devices differ.
    """

    embedding: torch.Tensor
    input: torch.Tensor
    input_bias: torch.Tensor
    recurrent: torch.Tensor
    output: torch.Tensor
    output_bias: torch.Tensor
    decoder: torch.Tensor

    def __post_init__(self) -> None:
        for name, sides in shapes(self.sizes).items():
            weight = getattr(self, name)
            if tuple(weight.shape) != sides:
                raise FieldError(f"{name} has the shape {tuple(weight.shape)}", expected=str(sides))
            if weight.dtype != self.dtype or weight.device != self.device:
                raise FieldError(
                    f"{name} is {weight.dtype} on {weight.device}", expected=f"{self.dtype} on {self.device}"
                )
        if not self.dtype.is_floating_point:
            raise FieldError(f"the weights are {self.dtype}", expected="a floating type")

    @classmethod
    def random(
        cls, sizes: TokenSizes, *, seed: int = 0, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> TokenModel:
        """Weights drawn evenly within ± 1 / √(inputs), as ``torch.nn.Linear`` draws them."""
        generator = torch.Generator(device).manual_seed(seed)
        made = {}
        for name, sides in shapes(sizes).items():
            bound = 1 / sqrt(sides[-1])
            weight = torch.empty(sides, dtype=dtype, device=device)
            made[name] = weight.uniform_(-bound, bound, generator=generator)
        return cls(**made)

    @property
    def sizes(self) -> TokenSizes:
        """As the shapes of the matrices say.

        Raises:
            FieldError: one that has to be a matrix is none.
        """
        for name in ("embedding", "output"):
            if getattr(self, name).dim() != 2:
                raise FieldError(
                    f"{name} has the shape {tuple(getattr(self, name).shape)}", expected="a matrix"
                )
        vocabulary, embedding = self.embedding.shape
        output, state = self.output.shape
        return TokenSizes(vocabulary=vocabulary, embedding=embedding, state=state, output=output)

    @property
    def dtype(self) -> torch.dtype:
        """Of all weights, and of everything computed with them."""
        found: torch.dtype = self.embedding.dtype
        return found

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.embedding.device

    @property
    def bytes(self) -> Bytes:
        """Bytes of the weights."""
        return Bytes(sum(getattr(self, field.name).nbytes for field in fields(self)))


def shapes(sizes: TokenSizes) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights, by name."""
    vocabulary, embedding = sizes.vocabulary, sizes.embedding
    state, output = sizes.state, sizes.output
    return {
        "embedding": (vocabulary, embedding),
        "input": (state, embedding),
        "input_bias": (state,),
        "recurrent": (state, state),
        "output": (output, state),
        "output_bias": (output,),
        "decoder": (vocabulary, output),
    }
