"""ZeRO's stage 3: each GPU keeps a piece of every parameter, and gathers whole ones as modules run.

Source: ``DeepSpeedZeroOptimizer_Stage3`` in deepspeed/runtime/zero/stage3.py. The model is built under
``zero.Init``: whole parameters are there one at a time, and only pieces stay.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Tag
from memplan.domain.workload import Workload
from memplan.simulator import autograd
from memplan.simulator.autograd import Leaf, require_grad
from memplan.simulator.blocks import Linear
from memplan.simulator.fused_loss import FUSED
from memplan.simulator.optimizer import Stepper
from memplan.simulator.sharding.whole import Model
from memplan.simulator.sharding.zero_engine import Engine
from memplan.simulator.sharding.zero_gather import Coordinator, Part
from memplan.simulator.sharding.zero_modules import GatheredLinear, Module
from memplan.simulator.tensor import Parameter, Resizable, Storage, Tape, Tensor

Run = Callable[[Tensor], Tensor]


class Sharded(Engine):
    """One GPU's share. Parameters that no module is known to gather are counted whole.

    ``pieces`` are what this GPU keeps of frozen parameters; those of trained ones lie in ``flat``, and
    their gradients in ``gradients``.
    """

    settling = 3

    def __init__(self, tape: Tape, workload: Workload, model: Model) -> None:
        super().__init__(tape, workload, model)
        self.coordinator = Coordinator(tape, self.zero, self.count, self.dtype)
        self.parts: dict[int, Part] = {}
        self.modules: list[Module] = []
        self.bucket_elements = 0
        self.waiting: list[Leaf] = []
        self.pieces: list[Storage] = []
        if self.count > 1:
            for parameter in self._all():
                self._cut(parameter)
            self._register()
        self._lay_out()
        trained = [self._piece(leaf) for leaf in self.leaves]
        self._prepare(trained)
        for leaf in self.leaves:
            leaf.after = self._arrived
        self.kept = [part for part in self.parts.values() if part.persistent]
        self.coordinator.regather(self.kept)

    def _all(self) -> list[Parameter]:
        store: Any = getattr(self.model, "store")  # noqa: B009
        found = {id(parameter): parameter for parameter in (*store.parameters, *self.parameters)}
        return list(found.values())

    def _piece(self, leaf: Leaf) -> int:
        return -(-prod(leaf.shape) // self.count)

    def _cut(self, parameter: Parameter) -> None:
        """Keep a piece: what was loaded was never more than that."""
        trace, storage = self.tape.trace, parameter.storage
        parameter.convert(self.dtype)
        size = prod(parameter.shape)
        piece = -(-size // self.count)
        tag: Tag = (parameter.component, parameter.name, "piece", (piece,), self.dtype)
        trace.sizes[storage.block] = piece * self.dtype.itemsize
        trace.tags[storage.block] = tag
        if parameter.node is None:
            self.pieces.append(storage)
        tag = (parameter.component, parameter.name, "gathered", parameter.shape, self.dtype)
        gathered = Resizable(trace, piece * self.count * self.dtype.itemsize, tag)
        persistent = size <= self.zero.persistence
        self.parts[id(parameter)] = Part(len(self.parts), size, gathered, persistent=persistent)
        parameter.storage = gathered

    def _register(self) -> None:
        """Embeddings, the linear layers of blocks and the head gather what they need."""
        model: Any = self.model
        seen: set[int] = set()
        # A fused loss multiplies with the head itself.
        projects = self.workload.loss.kind not in FUSED and hasattr(model, "project")
        if hasattr(model, "embed") and (projects or model.head is not model.embed_tokens):
            self._around("embed", self._embedding(model.embed), model.embed_tokens, seen)
        for block in getattr(model, "blocks", ()):
            self._gather_linears(getattr(block, "linears", {}), seen)
        if projects:
            self._around("project", model.project, model.head, seen)
        for parameter, part in self.parts.items():
            part.persistent = part.persistent or parameter not in seen

    def _gather_linears(self, linears: dict[str, Any], seen: set[int]) -> None:
        for name, layer in linears.items():
            base = getattr(layer, "base", layer)
            if not isinstance(base, Linear) or not isinstance(base.weight, Parameter):
                continue
            gathered = GatheredLinear(base, self._module(name, seen, base.weight, base.bias))
            if base is layer:
                linears[name] = gathered
            else:
                layer.base = gathered

    def _embedding(self, embed: Run) -> Run:
        """With adapters and checkpointing embeddings need a gradient before DeepSpeed's hooks see them."""
        wanted = self.workload.adapter is not None and self.workload.checkpointing.every

        def forward(tokens: Tensor) -> Tensor:
            result = embed(tokens)
            if wanted and result.node is None and result.tape.grad_enabled:
                require_grad(result, "embed_tokens")
            return result

        return forward

    def _around(self, method: str, inner: Run, parameter: Parameter, seen: set[int]) -> None:
        """Replace a method of the model by one that gathers a parameter."""
        module = self._module(method, seen, parameter)
        setattr(self.model, method, lambda x: module.run(inner, x))

    def _module(self, name: str, seen: set[int], *parameters: Parameter | None) -> Module:
        found = [parameter for parameter in parameters if parameter is not None]
        seen.update(id(parameter) for parameter in found)
        parts = tuple(self.parts[id(parameter)] for parameter in found)
        module = Module(self.coordinator, len(self.modules), parts, name)
        self.modules.append(module)
        return module

    def _lay_out(self) -> None:
        """``defragment``: trained pieces go to the host and come back as one buffer."""
        size = sum(self._piece(leaf) for leaf in self.leaves)
        self.flat = self.take(size, self.dtype, "defragment", "flat_parameters")
        if self.count == 1:
            for parameter in self.parameters:
                parameter.storage = self.flat.storage

    def _prepare(self, pieces: list[int]) -> None:
        """fp32 copies by sub-group, the bucket of gradients, and a place for this GPU's."""
        self.groups = _sub_groups(pieces, self.zero.sub_group)
        if not self.offloads:
            for group in self.groups:
                converted = self.take(sum(group), Dtype.FP32, "to")
                self.masters.append(self.master(sum(group)))
                del converted
            _zeros = self.take(max(map(sum, self.groups)), Dtype.FP32, "zeros")
            del _zeros
        self.bucket = self.take(self.zero.reduce_bucket, self.communication, "ipg_buffer", "communication")
        if not self.offloads:
            self.gradients = self.take(sum(pieces), self.accumulation, "grad_partitions", "gradients")

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch; a forward pass starts over with gathering."""
        self.coordinator.reset()
        return super().loss(tokens, labels)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Backward, with gradients reduced as they come."""
        del last
        self.tape.gradients = None
        autograd.backward(loss)
        self._reduce()
        for module in self.modules:
            if any(module.number in part.active for part in module.parts):
                module.after_backward()

    def _arrived(self, leaf: Leaf) -> None:
        """``reduce_independent_p_g_buckets_and_remove_grads``: gradients too large for the bucket stay."""
        size = prod(leaf.shape)
        if self.bucket_elements and self.bucket_elements + size > self.zero.reduce_bucket:
            self._reduce()
        if self.zero.contiguous and self.bucket_elements + size <= self.zero.reduce_bucket:
            leaf.grad = self.bucket.alias(leaf.shape, leaf.strides)
        self.waiting.append(leaf)
        self.bucket_elements += size

    def _reduce(self) -> None:
        """``__reduce_and_partition_ipg_grads``: gradients are interleaved by owner in a buffer first."""
        waiting, self.waiting = self.waiting, []
        elements, self.bucket_elements = self.bucket_elements, 0
        if not waiting:
            return
        sizes = [self._piece(leaf) * self.count for leaf in waiting]
        contiguous = not self.zero.reduce_scatter and self.zero.contiguous
        whole = len(waiting) == 1 and sizes[0] == prod(waiting[0].shape)
        cast: list[Tensor] = []
        if self.communication is not self.dtype:
            cast = [self.take(prod(leaf.shape), self.communication, "to") for leaf in waiting]
        buffer = None
        if not whole and not (contiguous and elements <= self.zero.reduce_bucket):
            buffer = self.take(sum(sizes), self.communication, "cat", "communication")
        del cast
        if self.accumulation is not self.communication:
            _pieces = [self.take(size // self.count, self.accumulation, "to") for size in sizes]
        for leaf in waiting:
            leaf.grad = None
        del buffer

    def update(self, stepper: Stepper) -> None:
        """``step``: norms of all pieces, then one sub-group after the other; persistent ones come back."""
        self.coordinator.drop(self.parts.values())
        if not self.offloads:
            for leaf in self.leaves:
                self.norm(self._piece(leaf))
            for master, group in zip(self.masters, self.groups, strict=True):
                self._update(stepper, master, group)
        self.coordinator.regather(self.kept)

    def _update(self, stepper: Stepper, master: Leaf, group: list[int]) -> None:
        size = sum(group)
        flat = self.take(size, self.accumulation, "flatten", "gradients") if len(group) > 1 else None
        if self.accumulation is Dtype.FP32:
            converted = flat or self.gradients.alias((size,), (1,))
        else:
            converted = self.take(size, Dtype.FP32, "to", "gradients")
        del flat
        master.grad = converted
        del converted
        stepper.step()
        master.grad = None


def _sub_groups(pieces: list[int], most: int) -> list[list[int]]:
    """``_create_fp16_sub_groups``: pieces together until they reach the size of a sub-group."""
    found: list[list[int]] = [[]]
    for piece in pieces:
        if found[-1] and sum(found[-1]) >= most:
            found.append([])
        found[-1].append(piece)
    return found
