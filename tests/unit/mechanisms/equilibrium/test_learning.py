"""It learns: a task of generated points, to the accuracy of backpropagation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from memplan.mechanisms.equilibrium import Convolution, Dense, Method, Network, Training, step

SAMPLES, CLASSES = 600, 3


def spirals(seed: int) -> tuple[Tensor, Tensor]:
    """Points (S, 2) of three arms that wind around each other, and the arm of each (S,)."""
    generator = torch.Generator().manual_seed(seed)
    arms = torch.arange(SAMPLES) % CLASSES
    along = torch.rand(SAMPLES, generator=generator)
    angle = 3 * along + arms * (2 * torch.pi / CLASSES)
    radius = (0.3 + 1.7 * along)[:, None]
    noise = 0.08 * torch.randn(SAMPLES, 2, generator=generator)
    return radius * torch.stack((angle.sin(), angle.cos()), 1) + noise, arms


def stripes(seed: int) -> tuple[Tensor, Tensor]:
    """Images (S, 1, 6, 6) of noise with a row, a column or a diagonal in it, and which of them (S,)."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.arange(SAMPLES) % CLASSES
    images = 0.3 * torch.randn(SAMPLES, 1, 6, 6, generator=generator)
    places = torch.randint(6, (SAMPLES,), generator=generator)
    for image, kind, place in zip(images, kinds, places, strict=True):
        shape = (image[0, place], image[0, :, place], image[0].diagonal())[kind]
        shape.add_(1.0)
    return images, kinds


def accuracy(network: Network, x: Tensor, labels: Tensor) -> float:
    return float((network.predict(x).argmax(1) == labels).float().mean())


def trained(
    network: Network, task: tuple[Tensor, Tensor], method: Method, epochs: int, rate: float
) -> Network:
    x, labels = task
    target = one_hot(labels, CLASSES).float()
    settings = Training(beta=0.2, steps=8, settling_rate=0.5, momentum=0.3, rate=rate)
    generator = torch.Generator().manual_seed(9)
    for _ in range(epochs):
        for part in torch.randperm(SAMPLES, generator=generator).split(50):
            step(network, x[part], target[part], settings, method)
    return network


def points() -> Network:
    return Network.dense((2, 32, 32, CLASSES), seed=2)


def images() -> Network:
    generator = torch.Generator().manual_seed(4)
    filters = 0.3 * torch.randn(6, 1, 3, 3, generator=generator)
    head = 0.1 * torch.randn(CLASSES, 6 * 16, generator=generator)
    layers = (
        Convolution(weight=filters, bias=torch.zeros(6)),
        Dense(weight=head, bias=torch.zeros(CLASSES)),
    )
    return Network(layers=layers, input=(1, 6, 6))


@pytest.mark.parametrize(
    ("make", "task", "epochs", "rate"), [(points, spirals, 120, 0.3), (images, stripes, 40, 0.1)]
)
def test_accuracy_is_within_two_points_of_backpropagation(
    make: object, task: object, epochs: int, rate: float
) -> None:
    assert callable(make)
    assert callable(task)
    unseen = task(2)
    found = {
        method: accuracy(trained(make(), task(1), method, epochs, rate), *unseen)
        for method in (Method.MANUAL, Method.BACKPROP)
    }
    assert found[Method.BACKPROP] > 0.9
    assert found[Method.MANUAL] >= found[Method.BACKPROP] - 0.02
    assert accuracy(make(), *unseen) < 0.6
