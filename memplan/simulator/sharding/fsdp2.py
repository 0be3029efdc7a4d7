"""FSDP2: ``fully_shard`` on every block and on the model, which keeps embeddings, last norm and head.

Source: ``FSDPState`` in torch/distributed/fsdp/_fully_shard/_fsdp_state.py (2.13). A block's parameters are
gathered before it runs and let go of afterwards; those of the root stay until backward is over. Backward
gathers a block's parameters when the gradient of its result is there and starts on those of the block before.
"""

from __future__ import annotations

from collections.abc import Callable

from memplan.domain.trace import OUTSIDE
from memplan.domain.workload import Workload
from memplan.simulator import autograd
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.sharding.fsdp2_group import Group, Shared
from memplan.simulator.sharding.parameters import Blocks, by_module, parameters_of
from memplan.simulator.sharding.whole import Whole
from memplan.simulator.tensor import Parameter, Tape, Tensor


def wrap(tape: Tape, workload: Workload, model: Blocks) -> Whole:
    """The model with its blocks and itself fully sharded."""
    return Fsdp2(tape, workload, model)


class Fsdp2(Whole):
    """A model of which one GPU keeps a share; ``leaves`` are the pieces of what trains."""

    def __init__(self, tape: Tape, workload: Workload, model: Blocks) -> None:
        super().__init__(tape, workload, model)
        self.shared = Shared(tape, workload.world)
        self.reduces = True
        by_layer: dict[int, list[Parameter]] = {OUTSIDE: []}
        for parameter in parameters_of(model):
            by_layer.setdefault(tape.trace.layers[parameter.storage.block], []).append(parameter)
        for found in by_layer.values():
            found.sort(key=by_module(found))
        # The root does not gather anew for backward what it needs first there.
        self.root = Group(self.shared, by_layer.pop(OUTSIDE), keeps=True)
        keeps = not workload.world.reshard_after_forward
        self.groups = [Group(self.shared, found, keeps=keeps) for _, found in sorted(by_layer.items())]
        leaves = {
            id(entry.trained): entry.leaf
            for group in (self.root, *self.groups)
            for entry in group.entries
            if entry.trained is not None
        }
        self.leaves = [leaves[id(leaf)] for leaf in model.leaves]
        model.blocks = [
            Block(self, block, group) for block, group in zip(model.blocks, self.groups, strict=True)
        ]

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""
        self.root.unshard()
        self.root.wait(forward=True)
        loss, logits = self.model.loss(tokens, labels)
        self.root.after_forward()
        for result in (loss, logits):
            watch(result, self.root.before_backward)
        self.shared.gathered = None
        return loss, logits

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Run backward; without the last micro-batch gradients stay whole, unless every one is reduced."""
        self.reduces = last or not self.workload.world.no_sync
        autograd.backward(loss)
        for group in (self.root, *self.groups):
            if not group.reduced:
                group.after_backward(reduces=self.reduces)
            group.reduced = group.rereading = False
            group.incoming = None
            group.places.clear()
        self.shared.order.clear()
        self.shared.reducing = None


class Block:
    """A block with the hooks of ``fully_shard`` around it."""

    __slots__ = ("block", "group", "owner")

    def __init__(self, owner: Fsdp2, block: Callable[..., Tensor], group: Group) -> None:
        self.owner = owner
        self.block = block
        self.group = group

    def __call__(self, hidden_states: Tensor, *others: Tensor | None) -> Tensor:
        group = self.group
        if group.rereading:
            # Recomputed by checkpointing: the hooks of backward gather and let go.
            return self.block(hidden_states, *others)
        group.unshard()
        group.wait(forward=True)
        hidden_states = self._entered(hidden_states)
        output = self.block(hidden_states, *others)
        group.after_forward()
        watch(output, group.before_backward)
        return output

    def _entered(self, hidden_states: Tensor) -> Tensor:
        """``RegisterPostBackwardFunction``: a node whose turn comes when the block's gradients are there."""
        owner, group = self.owner, self.group

        def run(_: Node, gradient: Tensor) -> Gradients:
            group.after_backward(reduces=owner.reduces)
            return (gradient,)

        node = begin(run, hidden_states)
        if node is None:
            return hidden_states
        entered = hidden_states.detach()
        node.finish(entered)
        return entered


def watch(result: Tensor, hook: Callable[[], None]) -> None:
    """Call a hook when the gradient of a result is there (``Tensor.register_hook``)."""
    if result.node is not None and result.tape.grad_enabled:
        result.tape.before[result.node] = hook
