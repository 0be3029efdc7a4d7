"""Checkpointed stacks: predicted from one layer's operations, measured by allocation events; numbers stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from memplan.domain.errors import InputError
from memplan.mechanisms.context import (
    CheckpointedStack,
    Placement,
    Stack,
    best_uniform,
    cheapest,
    layer_cost,
    lowest_peak,
)
from memplan.mechanisms.context.costs import random_state
from memplan.mechanisms.context.intervals import kept, uniform
from memplan.mechanisms.context.placement import peak, recomputed
from memplan.simulator.replay import replay
from memplan.smoke.cpu.events import Events

WIDTH, DEPTH = 32, 6

LOSS = 4 + 4
"""Bytes of the loss and its gradient, which are none of the stack's."""

pytestmark = pytest.mark.usefixtures("one_thread")


class Feedforward(nn.Module):  # type: ignore[misc]
    """Norm, two linears and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.down(functional.gelu(self.up(self.norm(hidden))))


class Block(nn.Module):  # type: ignore[misc]
    """A transformer block with causal attention and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.feedforward = Feedforward()

    def forward(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        split = self.qkv(self.norm(hidden)).view(batch, length, 3, 4, width // 4).permute(2, 0, 3, 1, 4)
        query, key, value = split
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        seen = self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return self.feedforward(hidden + self.dropout(seen))


class Saturating(nn.Module):  # type: ignore[misc]
    """Saves its output, which is the next layer's input."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.tanh(self.linear(hidden))


class End(torch.autograd.Function):  # type: ignore[misc]
    """A loss without figures of its own: a scalar, and a gradient of ones."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, output: Tensor) -> Tensor:
        ctx.shape = output.shape
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient.new_ones(ctx.shape)


def built(kind: Callable[[], nn.Module]) -> tuple[list[nn.Module], Tensor, Stack]:
    torch.manual_seed(0)
    layers = [kind() for _ in range(DEPTH)]
    hidden = torch.randn(2, 48, WIDTH, requires_grad=True)
    cost = layer_cost(layers[0], hidden)
    output = hidden.nbytes
    return layers, hidden, Stack(layers=(cost,) * DEPTH, output=output, head=2 * output, state=random_state())


def measured(layers: list[nn.Module], hidden: Tensor, placement: Placement) -> int:
    """The highest sum of allocations while forward and backward run."""
    stack = CheckpointedStack(layers, placement)
    stack.zero_grad(set_to_none=True)
    hidden.grad = None
    events = Events()
    with events.watching([(hidden, "activations", "input", "input")]) as found:
        End.apply(stack(hidden)).backward()
    return replay(found[0], exact=True).peak.allocated - LOSS


PLACEMENTS = [
    kept(DEPTH),
    *(uniform(DEPTH, interval) for interval in (1, 2, 4, 6)),
    uniform(DEPTH, 2, keep_last=True),
]


@pytest.mark.parametrize("kind", [Feedforward, Block, Saturating])
@pytest.mark.parametrize("placement", PLACEMENTS, ids=lambda placement: placement.name)
def test_the_predicted_peak_is_the_measured_one_to_the_byte(
    kind: Callable[[], nn.Module], placement: Placement
) -> None:
    layers, hidden, stack = built(kind)
    assert measured(layers, hidden, placement) == peak(stack, placement)


def test_the_best_placement_for_a_budget_takes_what_was_said_and_saves_what_was_said() -> None:
    layers, hidden, stack = built(Block)
    whole, lowest = measured(layers, hidden, kept(DEPTH)), lowest_peak(stack)
    for budget in (lowest, (whole + lowest) // 2, whole):
        found = cheapest(stack, budget)
        assert found is not None
        assert measured(layers, hidden, found) == peak(stack, found) <= budget
    assert lowest < 0.41 * whole
    best = best_uniform(stack)
    assert best is not None
    assert recomputed(stack, best) == (DEPTH - 1) * stack.layers[0].recompute


@pytest.mark.parametrize("placement", PLACEMENTS[1:], ids=lambda placement: placement.name)
def test_outputs_and_gradients_stay_to_the_bit_with_dropout(placement: Placement) -> None:
    layers, hidden, _ = built(Block)
    found = []
    for where in (PLACEMENTS[0], placement):
        stack = CheckpointedStack(layers, where)
        stack.zero_grad(set_to_none=True)
        hidden.grad = None
        torch.manual_seed(7)
        output = stack(hidden)
        output.square().sum().backward()
        found.append([output, hidden.grad, *(weight.grad for weight in stack.parameters())])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))


def test_a_layer_is_costed_without_memory_and_without_a_trace_on_it() -> None:
    layer = Feedforward()
    example = torch.empty(64, 32768, WIDTH, device="meta")
    cost = layer_cost(layer, example)
    rows = 64 * 32768
    assert cost.input == rows * WIDTH * 4
    # The norm's result, mean and deviation, and gelu's input and output.
    assert cost.saved == rows * (WIDTH + 2 + 2 * 4 * WIDTH) * 4
    assert cost.gradients == sum(weight.nbytes for weight in layer.parameters())
    assert cost.recompute == 2 * rows * WIDTH * 4 * WIDTH * 2
    assert all(weight.grad is None for weight in layer.parameters())


def test_running_statistics_stay_when_a_layer_is_costed() -> None:
    layer = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH))
    before = {name: tensor.clone() for name, tensor in layer.named_buffers()}
    layer_cost(layer, torch.randn(8, WIDTH))
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.named_buffers())


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (nn.Linear(WIDTH + 1, WIDTH), "does not run on"),
        (nn.LSTM(WIDTH, WIDTH), "gives no tensor"),
        (nn.Embedding(4, WIDTH), "does not run on"),
    ],
)
def test_layers_that_are_none_are_refused(layer: nn.Module, named: str) -> None:
    with pytest.raises(InputError, match=named):
        layer_cost(layer, torch.zeros(2, 3, WIDTH))


def test_a_placement_for_another_number_of_layers_is_refused() -> None:
    with pytest.raises(InputError, match="a placement of 2 layers for 3"):
        CheckpointedStack([nn.Identity()] * 3, kept(2))
