"""Layers on top of each other, checked once, and the states that belong to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Self

import torch
from torch import Tensor

from memplan.domain.errors import FieldError
from memplan.mechanisms.equilibrium.activation import Activation
from memplan.mechanisms.equilibrium.layers import Dense, Layer, Shape

States = list[Tensor]
"""One tensor per layer, lowest first: (B, N) above a dense layer, (B, C, H, W) above a convolution."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """Layers from the input to the output; ``input`` is the shape of a sample without the batch.

    Raises:
        FieldError: there are no layers, or they do not fit on each other.
    """

    layers: tuple[Layer, ...]
    input: Shape
    activation: Activation = Activation.TANH
    shapes: tuple[Shape, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.layers:
            raise FieldError("a network without layers", expected="at least one layer")
        if not self.input or min(self.input) < 1:
            raise FieldError(f"samples of shape {self.input}", expected="sides of at least 1")
        first = self.layers[0].weight
        shapes: list[Shape] = []
        below = self.input
        for number, layer in enumerate(self.layers, 1):
            if (layer.weight.dtype, layer.weight.device) != (first.dtype, first.device):
                raise FieldError(
                    f"layer {number} is {layer.weight.dtype} on {layer.weight.device}",
                    expected=f"{first.dtype} on {first.device}, as the first one",
                )
            try:
                below = layer.output(below)
            except FieldError as error:
                raise FieldError(
                    f"layer {number}: {error.message}", expected=error.expected, hint=error.hint
                ) from None
            shapes.append(below)
        object.__setattr__(self, "shapes", tuple(shapes))

    @classmethod
    def dense(
        cls,
        widths: Sequence[int],
        *,
        activation: Activation = Activation.TANH,
        seed: int = 0,
        gain: float = 1.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """Dense layers between neighbouring ``widths``, the first of which is the input's.

        Weights are drawn from N(0, ``gain``²/N) with a generator of their own, biases are zero.

        Raises:
            FieldError: there are fewer than two widths, or one is no whole number from 1 up.
        """
        if len(widths) < 2 or not all(type(width) is int and width > 0 for width in widths):
            raise FieldError(
                f"widths {', '.join(map(str, widths)) or 'of nothing'} make no layer",
                expected="at least two whole numbers of at least 1",
            )
        generator = torch.Generator(device).manual_seed(seed)
        layers = []
        for below, width in pairwise(widths):
            weight = torch.empty(width, below, dtype=dtype, device=device)
            weight.normal_(0, gain * below**-0.5, generator=generator)
            layers.append(Dense(weight=weight, bias=torch.zeros(width, dtype=dtype, device=device)))
        return cls(layers=tuple(layers), input=(widths[0],), activation=activation)

    def parameters(self) -> Iterator[Tensor]:
        """Weights and biases, lowest layer first."""
        for layer in self.layers:
            yield from layer.parameters()

    def forward(self, x: Tensor) -> States:
        """The states at which every prediction comes true: the free phase settled, its energy zero.

        Raises:
            FieldError: ``x`` does not fit the first layer.
        """
        self.check_input(x)
        with torch.no_grad():
            states = [self.layers[0].predict(x)]
            for layer in self.layers[1:]:
                states.append(layer.predict(self.activation.of(states[-1])))
        return states

    def predict(self, x: Tensor) -> Tensor:
        """The last of these states alone: the output, (B, …). Two states exist at a time."""
        self.check_input(x)
        with torch.no_grad():
            value = self.layers[0].predict(x)
            for layer in self.layers[1:]:
                value = layer.predict(self.activation.of(value))
        return value

    def zeros(self, batch: int) -> States:
        """States of nothing but zeros, from which a free phase can settle as well.

        Raises:
            FieldError: ``batch`` is below 0.
        """
        if batch < 0:
            raise FieldError(f"a batch of {batch} samples", expected="0 or more")
        like = self.layers[0].weight
        return [like.new_zeros((batch, *shape)) for shape in self.shapes]

    def check_input(self, x: Tensor) -> None:
        """See that ``x`` is a batch of samples that the first layer takes.

        Raises:
            FieldError: it is not, or not all of its numbers are finite.
        """
        like = self.layers[0].weight
        if x.dim() < 2 or tuple(x.shape[1:]) != self.input or not x.shape[0]:
            raise FieldError(
                f"an input of shape {tuple(x.shape)}",
                expected=f"(batch, {', '.join(map(str, self.input))}) with a batch of at least 1",
            )
        if x.dtype != like.dtype or x.device != like.device:
            raise FieldError(
                f"an input of {x.dtype} on {x.device}",
                expected=f"{like.dtype} on {like.device}, as the layers",
            )
        check_finite(x, "the input")

    def check_states(self, states: Sequence[Tensor], batch: int) -> None:
        """See that there is a state of the right shape for every layer.

        Raises:
            FieldError: there is not.
        """
        if len(states) != len(self.layers):
            raise FieldError(f"{len(states)} states", expected=f"{len(self.layers)}, one per layer")
        for number, (state, shape) in enumerate(zip(states, self.shapes, strict=True), 1):
            if tuple(state.shape) != (batch, *shape) or state.dtype != self.layers[0].weight.dtype:
                raise FieldError(
                    f"state {number} is {state.dtype} of shape {tuple(state.shape)}",
                    expected=f"{self.layers[0].weight.dtype} of shape {(batch, *shape)}",
                )

    def check_target(self, target: Tensor, batch: int) -> None:
        """See that a target has the output's shape.

        Raises:
            FieldError: it has not, or not all of its numbers are finite.
        """
        expected = (batch, *self.shapes[-1])
        if tuple(target.shape) != expected or target.dtype != self.layers[0].weight.dtype:
            raise FieldError(
                f"a target of {target.dtype} and shape {tuple(target.shape)}",
                expected=f"{self.layers[0].weight.dtype} of shape {expected}",
                hint="classes become one-hot rows",
            )
        check_finite(target, "the target")

    @property
    def weight_count(self) -> int:
        """Numbers in all weights and biases."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def state_count(self) -> int:
        """Numbers in all states of one sample."""
        return sum(prod(shape) for shape in self.shapes)


def check_finite(x: Tensor, name: str) -> None:
    """See that all numbers are finite: their sum says so, without a tensor of marks.

    Raises:
        FieldError: they are not.
    """
    if not torch.isfinite(x.sum()).item():
        raise FieldError(
            f"{name} holds numbers that are not finite", hint="look for overflows and divisions by 0"
        )
