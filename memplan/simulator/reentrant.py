"""Activation checkpointing as ``torch.utils.checkpoint`` does it with ``use_reentrant=True``."""

from __future__ import annotations

from collections.abc import Callable

from memplan.simulator.autograd import Gradients, Leaf, Node, begin, require_grad, run_graph
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Tensor


def reentrant(function: Callable[..., Tensor], hidden_states: Tensor, *others: Tensor | None) -> Tensor:
    """``function(hidden_states, *others)`` as ``use_reentrant=True`` checkpoints it.

    Forward builds no graph at all. Backward runs the function once more, to its end, and then that graph,
    from within its own node (``CheckpointFunction`` in torch/utils/checkpoint.py).
    """
    tape = hidden_states.tape
    if not tape.grad_enabled:
        return function(hidden_states, *others)
    autocast = tape.autocast
    # Reversed for the order in which they go, as in ``Region``.
    kept = tuple(reversed(others))

    def run(node: Node, gradient: Tensor) -> Gradients:
        inputs = require_grad(node.saved_tensor().detach(), "checkpoint")
        scope, component, casts = tape.scope, tape.component, tape.casts
        tape.grad_enabled, tape.autocast, tape.casts, tape.component = True, autocast, {}, "activations"
        result = function(inputs, *reversed(kept))
        tape.grad_enabled, tape.autocast, tape.casts, tape.component = False, None, casts, component
        tape.scope = scope
        assert isinstance(inputs.node, Leaf)
        assert result.node is not None
        run_graph(result.node, gradient)
        return (inputs.node.grad,)

    node = begin(run, hidden_states)
    if node is not None:
        node.save(tape, hidden_states)
    tape.grad_enabled = False
    result = function(hidden_states, *others)
    tape.grad_enabled = True
    return finish(node, result)
