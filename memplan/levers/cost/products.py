"""Matrix products: arithmetic in whole tiles, and the traffic of weights, inputs and results.

A product of M × K and K × N is 2·M·N·K operations. Thread blocks compute tiles of the result, as many at a
time as the GPU has multiprocessors; the last tile of a side and the last wave of tiles take as long as full
ones (NVIDIA, "Matrix Multiplication Background User's Guide", §3). Tiles of 128 × 128 run at the full rate.
Of 64 × 64 more fit a small product, but each operand is used half as often, so that they run at half of it.
Vectors, and matrices of few rows, need no tiles, and run at the rate of fp32 without tensor cores.
Gradients of weights sum over tokens, which are split where the result has few tiles (split-K): no waves.
A product takes the longer of its arithmetic and its traffic (Williams et al., "Roofline", CACM 52(4), 2009).
"""

from __future__ import annotations

from functools import lru_cache

from memplan.domain.dtype import Dtype
from memplan.levers.cost.facts import Facts, Product
from memplan.levers.cost.rates import Rates

LARGE, SMALL = 128, 64
"""Sides of tiles."""

SMALL_RATE = 0.5
"""Rate of small tiles relative to that of large ones."""


def product_seconds(rows: float, outputs: int, inputs: int, dtype: Dtype, rates: Rates) -> float:
    """One product of ``rows`` tokens with a matrix, forward or for the gradient of the input."""
    tiled = _computed(rows, outputs, rates.multiprocessors) / rates.of(dtype)
    arithmetic = 2.0 * inputs * min(tiled, rows * outputs / rates.of(Dtype.FP32))
    moved = (outputs * inputs + rows * (outputs + inputs)) * dtype.itemsize
    return max(arithmetic, moved / rates.bandwidth)


def _computed(rows: float, outputs: int, multiprocessors: int) -> float:
    """Elements of the result that the GPU is busy for, idle multiprocessors included."""
    if not multiprocessors:
        return rows * outputs
    return min(
        _whole(_whole(rows, tile) * _whole(outputs, tile), multiprocessors)
        * multiprocessors
        * tile
        * tile
        / rate
        for tile, rate in ((LARGE, 1.0), (SMALL, SMALL_RATE))
    )


def _whole(amount: float, unit: int) -> float:
    return -(-amount // unit)


def gradient_seconds(rows: float, outputs: int, inputs: int, dtype: Dtype, rates: Rates) -> float:
    """The gradient of the weight of such a product."""
    moved = (outputs * inputs + rows * (outputs + inputs)) * dtype.itemsize
    return max(2.0 * rows * outputs * inputs / rates.of(dtype), moved / rates.bandwidth)


@lru_cache(maxsize=4096)
def blocks_once(facts: Facts, tokens: int, dtype: Dtype, rates: Rates) -> float:
    """All products of the blocks once: the forward pass, the gradients of inputs, or a recomputation."""
    return sum(
        product.copies
        * product.experts
        * product_seconds(_rows(product, tokens), product.outputs, product.inputs, dtype, rates)
        for product in facts.products
    )


@lru_cache(maxsize=4096)
def blocks_gradients(facts: Facts, tokens: int, dtype: Dtype, rates: Rates) -> float:
    """The gradients of all weights of the blocks."""
    return sum(
        product.copies
        * product.experts
        * gradient_seconds(_rows(product, tokens), product.outputs, product.inputs, dtype, rates)
        for product in facts.products
    )


def _rows(product: Product, tokens: int) -> float:
    """Tokens that one matrix sees; those of experts are taken to be spread evenly."""
    return tokens * product.chosen / product.experts
