"""Small networks, batches for them, and the memory that a piece of code takes beside what was there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from memplan.mechanisms.equilibrium import Activation, Convolution, Dense, Network, States
from memplan.smoke.cpu.events import Events


def dense(activation: Activation = Activation.TANH, dtype: torch.dtype = torch.float64) -> Network:
    """Widths that all differ."""
    return Network.dense((5, 7, 6, 8, 3), activation=activation, seed=3, dtype=dtype)


def convolutional(activation: Activation = Activation.TANH) -> Network:
    """Two convolutions, one of which strides, and two dense layers on top."""
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.3

    layers = (
        Convolution(weight=drawn(4, 2, 3, 3), bias=drawn(4), padding=1),
        Convolution(weight=drawn(3, 4, 3, 3), bias=drawn(3), stride=2),
        Dense(weight=drawn(6, 3 * 3 * 2), bias=drawn(6)),
        Dense(weight=drawn(2, 6), bias=drawn(2)),
    )
    return Network(layers=layers, input=(2, 7, 6), activation=activation)


def batch(network: Network, size: int = 4) -> tuple[Tensor, Tensor, States]:
    """An input, a target, and states of noise."""
    generator = torch.Generator().manual_seed(size)
    dtype = network.layers[0].weight.dtype

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    states = [drawn(size, *shape) for shape in network.shapes]
    return drawn(size, *network.input), drawn(size, *network.shapes[-1]), states


def copied(states: States) -> States:
    """Other tensors with the same numbers."""
    return [state.clone() for state in states]


def transient(run: Callable[[], object]) -> int:
    """The most bytes that were allocated at once while something ran, beside what was there before."""
    torch.ones(8, 8) @ torch.ones(8, 8)
    events = Events()
    with events.watching(()) as found:
        run()
    held = highest = 0
    (trace,) = found
    for event in trace.events:
        held += trace.sizes[event] if event >= 0 else -trace.sizes[~event]
        highest = max(highest, held)
    return highest
