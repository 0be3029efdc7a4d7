"""What a layer predicts of the state above it, and the three things to do with its prediction error.

Shapes: B is the batch, N and M are widths, C and D channels, K a window's side, H and W an image's sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

from memplan.domain.errors import FieldError

Shape = tuple[int, ...]
"""Sides of one sample, without the batch."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gradient:
    """By how much the energy rises with a layer's parameters, in their shapes."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense:
    """W·r + b: ``weight`` (M, N), ``bias`` (M); takes r (B, N), or anything with N numbers in each sample."""

    weight: Tensor
    bias: Tensor

    def __post_init__(self) -> None:
        _check(self, sides=2)

    def output(self, shape: Shape) -> Shape:
        """The shape of a sample it predicts from one of that shape.

        Raises:
            FieldError: a sample of that shape has another number of values.
        """
        if prod(shape) != self.weight.shape[1]:
            raise FieldError(
                f"a dense layer of {self.weight.shape[1]} inputs does not take {_sides(shape)}",
                expected=f"weight ({self.weight.shape[0]}, {prod(shape)})",
            )
        return (self.weight.shape[0],)

    def predict(self, value: Tensor) -> Tensor:
        """(B, …) → (B, M), a new tensor."""
        return torch.addmm(self.bias, value.flatten(1), self.weight.t())

    def pull(self, error: Tensor, shape: torch.Size) -> Tensor:
        """Wᵀ·error: (B, M) → the shape of the values below, a new tensor."""
        return (error @ self.weight).view(shape)

    def gradient(self, error: Tensor, value: Tensor) -> Gradient:
        """The energy's gradient, summed over the batch: -errorᵀ·value, as large as the layer."""
        return Gradient(weight=(error.t() @ value.flatten(1)).neg_(), bias=error.sum(0).neg_())

    def move(self, error: Tensor, value: Tensor, scale: float) -> None:
        """Add ``scale``·errorᵀ·value to the weight, and likewise to the bias, without making a gradient."""
        self.weight.addmm_(error.t(), value.flatten(1), alpha=scale)
        self.bias.add_(error.sum(0), alpha=scale)

    def of(self, weight: Tensor, bias: Tensor) -> Self:
        """The same layer with other parameters."""
        return replace(self, weight=weight, bias=bias)

    def parameters(self) -> Iterator[Tensor]:
        """Weight and bias."""
        yield self.weight
        yield self.bias


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution:
    """W ⋆ r + b: ``weight`` (D, C, K, K), ``bias`` (D); takes r (B, C, H, W)."""

    weight: Tensor
    bias: Tensor
    stride: int = 1
    padding: int = 0

    def __post_init__(self) -> None:
        _check(self, sides=4)
        if self.stride < 1 or self.padding < 0:
            raise FieldError(
                f"a convolution of stride {self.stride} and padding {self.padding} leads nowhere",
                expected="stride at least 1, padding at least 0",
            )

    def output(self, shape: Shape) -> Shape:
        """The shape of a sample it predicts from one of that shape.

        Raises:
            FieldError: it takes no sample of that shape.
        """
        filters, channels, *window = self.weight.shape
        if len(shape) != 3 or shape[0] != channels:
            raise FieldError(
                f"a convolution of {channels} channels does not take {_sides(shape)}",
                expected=f"({channels}, height, width)",
            )
        sides = [
            (side + 2 * self.padding - length) // self.stride + 1
            for side, length in zip(shape[1:], window, strict=True)
        ]
        if min(sides) < 1:
            raise FieldError(
                f"a window of {_sides(tuple(window))} is larger than {_sides(shape[1:])}",
                hint="smaller windows, or more padding",
            )
        return (filters, *sides)

    def predict(self, value: Tensor) -> Tensor:
        """(B, C, H, W) → (B, D, H', W'), a new tensor."""
        return functional.conv2d(value, self.weight, self.bias, self.stride, self.padding)

    def pull(self, error: Tensor, shape: torch.Size) -> Tensor:
        """The transposed convolution of an error (B, D, H', W'), in the shape of the values below."""
        pulled: Tensor = conv2d_input(shape, self.weight, error, self.stride, self.padding)
        return pulled

    def gradient(self, error: Tensor, value: Tensor) -> Gradient:
        """The energy's gradient, summed over the batch, as large as the layer."""
        return Gradient(weight=self._product(error, value).neg_(), bias=error.sum((0, 2, 3)).neg_())

    def move(self, error: Tensor, value: Tensor, scale: float) -> None:
        """Add ``scale``·product to the weight, and likewise to the bias; the product is made first."""
        self.weight.add_(self._product(error, value), alpha=scale)
        self.bias.add_(error.sum((0, 2, 3)), alpha=scale)

    def of(self, weight: Tensor, bias: Tensor) -> Self:
        """The same layer with other parameters."""
        return replace(self, weight=weight, bias=bias)

    def parameters(self) -> Iterator[Tensor]:
        """Weight and bias."""
        yield self.weight
        yield self.bias

    def _product(self, error: Tensor, value: Tensor) -> Tensor:
        product: Tensor = conv2d_weight(value, self.weight.shape, error, self.stride, self.padding)
        return product


Layer = Dense | Convolution


def _check(layer: Layer, *, sides: int) -> None:
    """See that weight and bias belong together.

    Raises:
        FieldError: they do not, or hold nothing, or no numbers.
    """
    weight, bias = layer.weight, layer.bias
    name = type(layer).__name__
    if weight.dim() != sides or not weight.numel():
        raise FieldError(
            f"{name}: the weight's shape is {_sides(tuple(weight.shape))}",
            expected=f"{sides} sides, none of them 0",
        )
    if tuple(bias.shape) != (weight.shape[0],):
        raise FieldError(
            f"{name}: the bias' shape is {_sides(tuple(bias.shape))}", expected=f"({weight.shape[0]},)"
        )
    if weight.dtype != bias.dtype or weight.device != bias.device or not weight.is_floating_point():
        raise FieldError(
            f"{name}: weight {weight.dtype} on {weight.device}, bias {bias.dtype} on {bias.device}",
            expected="the same floating point type on the same device",
        )


def _sides(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"
