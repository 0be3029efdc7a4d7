"""Modules whose parameters ZeRO-3 gathers when they run, forward and backward.

Source: ``_register_deepspeed_module`` in deepspeed/runtime/zero/parameter_offload.py: hooks around each
module's forward pass, before its backward pass and after it.
"""

from __future__ import annotations

from collections.abc import Callable

from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.blocks import Linear
from memplan.simulator.sharding.zero_gather import Coordinator, Part
from memplan.simulator.tensor import Tensor

AHEAD = {"embed": 2, "q_proj": 3, "gate_proj": 2, "up_proj": 1, "project": 1}
"""Modules with small parameters or none that run between a linear layer and the one before it."""

BEHIND = {"project": 1, "down_proj": 3, "gate_proj": 1, "o_proj": 2, "embed": 1}
"""The same in backward. Each of them prefetches once."""


class Module:
    """One module: its number, its parameters, and how many others come before it in either direction."""

    __slots__ = ("ahead", "behind", "coordinator", "number", "parts")

    def __init__(
        self, coordinator: Coordinator, number: int, parts: tuple[Part, ...], name: str = ""
    ) -> None:
        self.coordinator = coordinator
        self.number = number
        self.parts = parts
        self.ahead = AHEAD.get(name, 0)
        self.behind = BEHIND.get(name, 0)

    def run(self, forward: Callable[[Tensor], Tensor], x: Tensor, *, keeps: bool = True) -> Tensor:
        """Run a forward pass with the parameters at hand; its node gets them again.

        ``keeps`` says that the input is saved in any case: DeepSpeed's linear function does so also where
        the weight is frozen (``LinearFunctionForZeroStage3`` in deepspeed/runtime/zero/linear.py).
        """
        x, node = self._entered(x)
        self._fetch(self.ahead)
        result = forward(x)
        if keeps and node is not None:
            node.save(x.tape, x)
        self.coordinator.release(self.number, self.parts)
        tape = result.tape
        discarded = tape.region is not None and tape.region.recomputing
        if result.node is not None and tape.grad_enabled and not discarded:
            tape.before[result.node] = self.before_backward
        return result

    def before_backward(self) -> None:
        """The gradient of the result is there."""
        self._fetch(self.behind)

    def after_backward(self) -> None:
        """The gradient of the input is there, and those of the parameters before it."""
        self.coordinator.release(self.number, self.parts)

    def _entered(self, x: Tensor) -> tuple[Tensor, Node | None]:
        """``PostBackwardFunctionModule``: a node whose turn comes when the module's gradients are there."""

        def run(node: Node, gradient: Tensor) -> Gradients:
            _ = node.unpack()
            self.after_backward()
            return (gradient,)

        node = begin(run, x)
        if node is None:
            return x, None
        entered = x.detach()
        node.finish(entered)
        return entered, node

    def _fetch(self, others: int) -> None:
        for _ in range(others):
            self.coordinator.fetch(self.number, ())
        self.coordinator.fetch(self.number, self.parts)


class GatheredLinear(Linear):
    """A linear layer that has its parameters only while it runs."""

    __slots__ = ("module",)

    def __init__(self, layer: Linear, module: Module) -> None:
        for name in Linear.__slots__:
            setattr(self, name, getattr(layer, name))
        self.module = module

    def __call__(self, x: Tensor) -> Tensor:
        return self.module.run(super().__call__, x)
