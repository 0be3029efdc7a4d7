"""What models without a causal mask share: blocks under checkpointing, adapters, counted parameters.

A family subclasses ``Encoder``, loads its parameters in ``load``, and computes its loss. Nothing is padded,
so attention gets no mask unless the workload says so.

Shapes: token ids (B, S), hidden states (B, S, h).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol

from memplan.domain.architecture import Architecture, ParameterGroup
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError
from memplan.domain.workload import Adapter, Attention, Workload
from memplan.simulator import masks
from memplan.simulator.adapters import LoraLinear, adapt
from memplan.simulator.autograd import Leaf, require_grad
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.regions import pieces, through
from memplan.simulator.tensor import Tape, Tensor

Projection = Linear | LoraLinear


class Part(Protocol):
    """A piece of a model with linear layers that an adapter may wrap, by their short names."""

    linears: dict[str, Projection]


class Block(Part, Protocol):
    """One encoder block."""

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, /) -> Tensor: ...


def attached(inputs_embeds: Tensor, workload: Workload) -> Tensor:
    """With adapters under checkpointing, PEFT makes the embeddings need a gradient."""
    if workload.adapter is not None and workload.checkpointing.every:
        require_grad(inputs_embeds, "embeddings")
    return inputs_embeds


class Encoder:
    """A model in the simulator; ``leaves`` are its trainable parameters."""

    blocks: list[Block]

    def __init__(self, tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> None:
        adapter = workload.adapter
        self.shape = shape
        self.workload = workload
        self.kind = kind
        store = self.store = Store(
            tape, workload.precision.params, trainable=adapter is None, quantized=workload.quantization
        )
        self.load(store)
        store.loaded()
        self.leaves = store.leaves
        if adapter is not None:
            if adapter.prepare_kbit:
                store.prepare_kbit()
            adapters = Store(tape, adapter.dtype, trainable=True)
            for part in self.parts():
                part.linears = adapt(part.linears, adapter, adapters)
            self.leaves = [*adapters.leaves, *self.copies(adapters, adapter)]
            if adapter.half_embeddings:
                store.halve_embeddings()

    # What a family says.

    def load(self, store: Store) -> None:
        """All parameters, in load order; sets ``blocks``."""
        raise NotImplementedError

    def parts(self) -> Iterable[Part]:
        """Everything whose linear layers an adapter may wrap."""
        return self.blocks

    def loss(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""
        raise NotImplementedError

    def logit_sides(self) -> tuple[int, ...]:
        """The sides of the logits of one example."""
        raise NotImplementedError

    # What all of them do.

    def copies(self, store: Store, adapter: Adapter) -> list[Leaf]:
        """The classifier as a trained copy (``ModulesToSaveWrapper``); the original stays, frozen.

        Raises:
            FieldError: the adapter asks for copies of other modules.
        """
        classifier = getattr(self, "classifier", None)
        if not adapter.modules_to_save:
            return []
        if adapter.modules_to_save != ("classifier",) or classifier is None:
            raise FieldError(
                f"modules_to_save is {', '.join(adapter.modules_to_save)}",
                expected=f"nothing but a classifier with a {self.shape.model_type}",
            )
        before = len(store.leaves)
        self.originals = (classifier.weight, classifier.bias)
        classifier.weight = store.copy(classifier.weight)
        classifier.bias = store.copy(classifier.bias)
        return [store.leaves.pop(before) for _ in range(2)]

    def inputs(self, tape: Tape, batch: int) -> tuple[Tensor, Tensor]:
        """Token ids (B, S), and as many labels."""
        size = (batch, self.workload.sequence.length)
        return tape.empty(size, Dtype.INT64, "input_ids"), tape.empty(size, Dtype.INT64, "labels")

    def mask(self, hidden_states: Tensor) -> Tensor | None:
        """``create_bidirectional_mask``: none without padding; as large as a causal one with it."""
        if not self.workload.causal_mask or self.kind is Attention.FLASH_ATTENTION_2:
            return None
        hidden_states.tape.scope = "mask"
        length = hidden_states.shape[1]
        mask = masks.causal(hidden_states, length, length)
        return masks.additive(mask, hidden_states.dtype) if self.kind is Attention.EAGER else mask

    def layers(self) -> Iterator[int]:
        """The depths of the blocks that are simulated; allocations belong to the current one."""
        return self.store.tape.layers(self.shape.num_hidden_layers)

    def encode(self, hidden_states: Tensor, mask: Tensor | None) -> Tensor:
        """All blocks, one after the other."""
        wanted = self.workload.checkpointing
        for piece in pieces(hidden_states.tape, self.shape.num_hidden_layers, wanted):
            beside = [(mask,)] * len(piece.places)
            hidden_states = through(piece, self.blocks, hidden_states, beside, checkpoint)
        return hidden_states

    def groups(self) -> tuple[ParameterGroup, ...]:
        """The model's own parameters, alike ones counted together."""
        counted = Counter((entry.name, entry.component, entry.shape) for entry in self.store.parameters)
        return tuple(
            ParameterGroup(name=name, component=component, shape=shape, copies=copies)
            for (name, component, shape), copies in counted.items()
        )
