"""Draws what checkpointing takes, interval by interval and placement by placement, predicted and measured.

``python -m docs.figures.large_context_checkpoints`` writes the pictures beside this file. Predictions come
from the operations of one layer (``layer_cost``), measurements from the profiler's allocation events of a
real forward and backward pass through all of them on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from memplan.mechanisms.context import (
    CheckpointedStack,
    Placement,
    Stack,
    cheapest,
    layer_cost,
    lowest_peak,
    sqrt_interval,
)
from memplan.mechanisms.context.costs import random_state
from memplan.mechanisms.context.intervals import kept, uniform
from memplan.mechanisms.context.placement import peak, recomputed
from memplan.reporters.pictures import svg
from memplan.reporters.pictures.curves import Curve, Figure, draw
from memplan.simulator.replay import replay
from memplan.smoke.cpu.events import Events

FOLDER = Path(__file__).parent
LAYERS, WIDTH, HEADS, TOKENS = 24, 64, 4, 256
BUDGETS = 16
VERSION = torch.__version__.partition("+")[0]

Measure = Callable[[list[nn.Module], Tensor, Placement], int]
Run = Callable[[Placement], int]

LOSS = 4 + 4
"""Bytes of the loss and its gradient, which are none of the stack's."""


class _End(torch.autograd.Function):  # type: ignore[misc]
    """A loss that allocates a scalar, and a gradient of ones when backward begins."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, output: Tensor) -> Tensor:
        ctx.shape = output.shape
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient.new_ones(ctx.shape)


def measured(layers: list[nn.Module], hidden: Tensor, placement: Placement) -> int:
    """The highest sum of allocations of a forward and a backward pass, in bytes."""
    stack = CheckpointedStack(layers, placement)
    stack.zero_grad(set_to_none=True)
    hidden.grad = None
    events = Events()
    with events.watching([(hidden, "activations", "input", "input")]) as found:
        _End.apply(stack(hidden)).backward()
    return replay(found[0], exact=True).peak.allocated - LOSS


def main() -> None:
    """Run, compare and draw."""
    torch.set_num_threads(1)
    for name, figure in figures(measured).items():
        (FOLDER / name).write_text(svg.render(draw(figure)), encoding="utf-8")


def figures(measure: Measure) -> dict[str, Figure]:
    """Both figures by the names of their files; ``measure`` runs a placement."""
    torch.manual_seed(0)
    layers = [_layer() for _ in range(LAYERS)]
    hidden = torch.randn(1, TOKENS, WIDTH, requires_grad=True)
    cost = layer_cost(layers[0], hidden)
    output = hidden.nbytes
    stack = Stack(layers=(cost,) * LAYERS, output=output, head=2 * output, state=random_state())

    def run(placement: Placement) -> int:
        return measure(layers, hidden, placement)

    return {
        "large-context-intervals.svg": _intervals(stack, run),
        "large-context-placements.svg": _placements(stack, run),
    }


def _layer() -> nn.Module:
    return nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )


def _compared(stack: Stack, run: Run, placements: list[Placement]) -> Iterator[tuple[int, int]]:
    """Predicted and measured peaks, printed side by side."""
    for placement in placements:
        predicted, seen = peak(stack, placement), run(placement)
        again = 100 * recomputed(stack, placement) / recomputed(stack, uniform(len(stack), 1))
        figures_of = f"{predicted:>12,} {seen:>12,} {predicted - seen:>+8,}  {again:3.0f} % again"
        print(f"{placement.name:>60}  {figures_of}")
        yield predicted, seen


def _intervals(stack: Stack, run: Run) -> Figure:
    every = range(1, LAYERS + 1)
    found = list(_compared(stack, run, [uniform(LAYERS, item) for item in every]))
    rule = sqrt_interval(LAYERS)
    return Figure(
        title=f"Checkpointing {LAYERS} transformer layers: peak by interval",
        about=f"a step on a CPU, PyTorch {VERSION}; the square root rule says {rule}, single layers take"
        f" {100 - 100 * found[0][0] / found[rule - 1][0]:.0f} % less",
        across="layers in a segment",
        curves=(
            Curve(name="predicted", points=tuple(zip(every, [item for item, _ in found], strict=True))),
            Curve(
                name="measured",
                points=tuple(zip(every, [seen for _, seen in found], strict=True)),
                measured=True,
                like="predicted",
            ),
        ),
        doubling=False,
        doubling_bytes=False,
    )


def _placements(stack: Stack, run: Run) -> Figure:
    whole, least = peak(stack, kept(LAYERS)), lowest_peak(stack)
    budgets = [least + (whole - least) * step // BUDGETS for step in range(BUDGETS + 1)]
    best = {item.name: item for budget in budgets if (item := cheapest(stack, budget)) is not None}
    even = [uniform(LAYERS, item, keep_last=True) for item in (1, 2, 3, 4, 6, 8, 12, LAYERS)]
    named = {"best placements": list(best.values()), "even segments, the last kept": even}
    curves = []
    for name, placements in named.items():
        shares = [
            100 * recomputed(stack, item) / recomputed(stack, uniform(LAYERS, 1)) for item in placements
        ]
        found = list(_compared(stack, run, placements))
        line = sorted(zip(shares, [item for item, _ in found], strict=True))
        dots = tuple(zip(shares, [seen for _, seen in found], strict=True))
        curves += [
            Curve(name=name, points=tuple(line)),
            Curve(name="measured", points=dots, measured=True, like=name),
        ]
    return Figure(
        title=f"Checkpointing {LAYERS} transformer layers: memory against work",
        about=f"peak of a step on a CPU, PyTorch {VERSION}; best placements are found for their budgets",
        across="layers run again, % of all",
        curves=tuple(curves),
        doubling=False,
        doubling_bytes=False,
    )


if __name__ == "__main__":
    main()
