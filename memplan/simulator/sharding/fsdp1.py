"""FSDP1: ``FullyShardedDataParallel`` around every block and the model, as the Trainer and Fabric set it up.

Source: torch/distributed/fsdp/_runtime_utils.py (2.13). A block's parameters are gathered before it runs and
let go of afterwards; those of the root (embeddings, last norm, head) stay until backward is over. Adapters of
PEFT are wrapped each on its own (``fsdp_auto_wrap_policy`` in peft/utils/other.py), so that what is frozen
gets no gradients; litgpt's are not.

A block of memory that another stream uses comes back to its own when that stream is done with it
(``record_stream``); here it comes back at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.trace import OUTSIDE
from memplan.domain.workload import Workload
from memplan.simulator import autograd
from memplan.simulator.adapters import LoraLinear
from memplan.simulator.matmul import linear
from memplan.simulator.optimizer import Stepper
from memplan.simulator.quantization import Matrix
from memplan.simulator.sharding.fsdp1_flat import Flat, Packed, State
from memplan.simulator.sharding.fsdp1_shared import Shared
from memplan.simulator.sharding.parameters import Blocks, by_module, parameters_of
from memplan.simulator.sharding.whole import Whole
from memplan.simulator.tensor import Parameter, Tape, Tensor


def wrap(tape: Tape, workload: Workload, model: Blocks) -> Whole:
    """The model with its blocks, its adapters and itself wrapped."""
    return Fsdp1(tape, workload, model)


class Fsdp1(Whole):
    """A model of which one GPU keeps a share; ``leaves`` are the pieces of what trains.

    Two steps, because the second begins with gradients of the first.
    """

    settling = 2

    def __init__(self, tape: Tape, workload: Workload, model: Blocks) -> None:
        super().__init__(tape, workload, model)
        self.shared = Shared(tape, workload.world)
        by_layer: dict[int, list[Parameter]] = {OUTSIDE: []}
        for parameter in parameters_of(model):
            by_layer.setdefault(tape.trace.layers[parameter.storage.block], []).append(parameter)
        for found in by_layer.values():
            found.sort(key=by_module(found))
        blocks: list[Any] = list(model.blocks)
        self.flats: list[Flat] = []
        model.blocks = [self._wrapped(block, by_layer[layer]) for layer, block in enumerate(blocks)]
        if workload.checkpointing.reentrant and not workload.framework.transformers_before(4, 52):
            model.checkpointed = within
        self.root = Flat(self.shared, by_layer[OUTSIDE], root=True)
        self.flats.insert(0, self.root)
        if workload.world.use_orig_params:
            leaves = {name: leaf for flat in self.flats for name, leaf in flat.leaves}
            self.leaves = [leaves[id(leaf)] for leaf in model.leaves if id(leaf) in leaves]
        else:
            self.leaves = [leaf for flat in self.flats for _, leaf in flat.leaves]

    def _wrapped(self, block: Any, parameters: list[Parameter]) -> Block:
        adapters = [
            layer for layer in getattr(block, "linears", {}).values() if isinstance(layer, LoraLinear)
        ]
        alone = [part for layer in adapters for part in (layer.down, layer.up)]
        known = {id(part) for part in alone}
        own: list[Parameter | Packed] = [entry for entry in parameters if id(entry) not in known]
        own += _packed(block, own[0].dtype)
        found = Block(self.shared, block, Flat(self.shared, own, root=False))
        self.flats.append(found.unit.flat)
        units = {id(part): Unit(self.shared, Flat(self.shared, [part], root=False)) for part in alone}
        self.flats += [unit.flat for unit in units.values()]
        for layer in adapters:
            layer.multiply = Thin(units)
        return found

    def stepper(self) -> Stepper:
        """The optimizer; gradients are clipped one by one."""
        return _Stepper(self.tape, self.workload.optimizer, self.leaves, self.workload.precision)

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""
        for flat in self.flats:
            flat.drop()
            flat.awaited, flat.prefetched = True, False
        root = Unit(self.shared, self.root)
        root.before()
        loss, logits = self.model.loss(tokens, labels)
        root.after(loss, logits)
        return loss, logits

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Run backward; without the last micro-batch gradients stay whole, unless every one is reduced."""
        self.shared.reduces = last or not self.workload.world.no_sync
        autograd.backward(loss)
        self.shared.order.clear()
        for flat in self.flats:
            flat.finish()

    def update(self, stepper: Stepper) -> None:
        """Step the optimizer. Views of original parameters keep gradients until the next forward pass."""
        super().update(stepper)
        if not self.workload.world.use_orig_params:
            for flat in self.flats:
                flat.drop()


def _packed(block: Any, dtype: Dtype) -> Iterator[Packed]:
    """The 4-bit weights of a block; their scales are no parameters, and stay on every GPU."""
    for layer in getattr(block, "linears", {}).values():
        base = layer.base if isinstance(layer, LoraLinear) else layer
        if isinstance(base.weight, Matrix):
            packed, *scales = base.weight.held
            found = Packed(packed, base.name, dtype)
            base.weight.held = (found, *scales)
            yield found


class Unit:
    """A wrapped module: the hooks around its forward pass."""

    __slots__ = ("flat", "shared")

    def __init__(self, shared: Shared, flat: Flat) -> None:
        self.shared = shared
        self.flat = flat

    def before(self, *inputs: Tensor | None) -> None:
        """``_pre_forward``: gather; what is frozen is let go of when the inputs' gradients are there."""
        flat = self.flat
        flat.begin()
        if flat.leaf is None and self.shared.tape.grad_enabled and not flat.watched:
            flat.watched = [x.node for x in inputs if x is not None and watch(x, self._let_go)]

    def after(self, *outputs: Tensor) -> None:
        """``_post_forward``: let go, unless it is the root, and expect the gradients of the outputs."""
        flat, shared = self.flat, self.shared
        if not flat.index:
            flat.index = len(shared.order)
        shared.order.append(flat)
        flat.reshard(free=not flat.root and shared.world.reshard_after_forward)
        flat.state = State.IDLE
        if not shared.tape.grad_enabled:
            return
        flat.needed = flat.ran = False
        for output in outputs:
            if watch(output, self._before_backward):
                flat.needed = True

    def _before_backward(self) -> None:
        """``_pre_backward_hook``: gather again, and start on what ran before."""
        flat = self.flat
        if flat.ran:
            return
        flat.state = State.BACKWARD_PRE
        if flat.needed and not flat.prefetched:
            flat.unshard()
        flat.needed = False
        flat.prefetch("pre")
        flat.prepare()
        flat.ran = True

    def _let_go(self) -> None:
        """``_post_backward_reshard_only_hook``, of what is frozen."""
        flat = self.flat
        flat.state = State.BACKWARD_POST
        flat.reshard(free=flat.frees_in_backward)
        flat.prefetch("post")


class Block:
    """A wrapped block."""

    __slots__ = ("block", "unit")

    def __init__(self, shared: Shared, block: Callable[..., Tensor], flat: Flat) -> None:
        self.block = block
        self.unit = Unit(shared, flat)

    def __call__(self, hidden_states: Tensor, *others: Tensor | None) -> Tensor:
        return self.around(self.block, hidden_states, *others)

    def around(self, run: Callable[..., Tensor], hidden_states: Tensor, *others: Tensor | None) -> Tensor:
        """What runs the block, with the hooks around it."""
        if self.unit.flat.state is State.BACKWARD_PRE:
            # Recomputed by checkpointing.
            return run(hidden_states, *others)
        self.unit.before(hidden_states, *others)
        output = run(hidden_states, *others)
        self.unit.after(output)
        return output


def within(run: Callable[..., Tensor], block: Block, *arguments: Tensor) -> Tensor:
    """A wrapped block that checkpoints itself, as those of transformers do since 4.52.

    Before, the wrapped block was what is checkpointed (``GradientCheckpointingLayer`` in
    src/transformers/modeling_layers.py).
    """
    return block.around(partial(run, block.block), *arguments)


class Thin:
    """The wrapped layers of an adapter."""

    __slots__ = ("units",)

    def __init__(self, units: dict[int, Unit]) -> None:
        self.units = units

    def __call__(self, x: Tensor, weight: Parameter) -> Tensor:
        unit = self.units[id(weight)]
        if unit.flat.state is State.BACKWARD_PRE:
            return linear(x, weight)
        unit.before(x)
        output = linear(x, weight)
        unit.after(output)
        return output


class _Stepper(Stepper):
    """An optimizer whose gradients are clipped by ``FullyShardedDataParallel.clip_grad_norm_``."""

    __slots__ = ()

    def _clip(self, leaves: list[autograd.Leaf]) -> None:
        """A norm in fp32 of each gradient, of all of them, and each scaled in place (``_get_grad_norm``)."""
        empty, dtype = self.tape.empty, Dtype.FP32
        norms = [empty((), dtype, "vector_norm") for _ in leaves]
        _stacked = empty((len(norms),), dtype, "stack")
        _total = empty((), dtype, "vector_norm")


def watch(result: Tensor, hook: Callable[[], None]) -> bool:
    """Call a hook when the gradient of a result is there, after those registered before.

    What checkpointing recomputes is not watched, unless it is reentrant: its graph is not the one that runs.
    """
    tape, node = result.tape, result.node
    if node is None:
        return False
    if tape.region is not None and tape.region.recomputing:
        return True
    earlier = tape.before.get(node)
    tape.before[node] = hook if earlier is None else _both(earlier, hook)
    return True


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        first()
        second()

    return run
