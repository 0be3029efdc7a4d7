"""What decoder-only language models share: embeddings, blocks, norm, head, loss, checkpointing, adapters.

A family subclasses ``Decoder`` and says how its blocks, norms, positions and masks are made. The forward
pass keeps the local variables that transformers' ``…Model.forward`` and ``…ForCausalLM.forward`` keep,
because their lifetimes decide the peak.

Shapes: token ids (B, S), hidden states (B, S, h), logits (B, S, V).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from memplan.domain.architecture import Architecture, ParameterGroup
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.domain.workload import Adapter, Attention, Workload
from memplan.simulator import masks, ops, shapes
from memplan.simulator.adapters import LoraLinear, adapt
from memplan.simulator.autograd import Leaf, require_grad
from memplan.simulator.blocks import Linear, RMSNorm, Rotary, Store
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.chunked_loss import chunked_loss
from memplan.simulator.fused_loss import FUSED
from memplan.simulator.kernels import choose, needs_mask
from memplan.simulator.loss import causal_lm_loss
from memplan.simulator.matmul import linear
from memplan.simulator.offload import offloading
from memplan.simulator.reentrant import reentrant
from memplan.simulator.regions import Arguments, Piece, pieces, through
from memplan.simulator.tensor import Tape, Tensor

Projection = Linear | LoraLinear
Masks = dict[str, Tensor | None]


class Module(Protocol):
    """Something that maps hidden states to hidden states."""

    def __call__(self, x: Tensor, /) -> Tensor: ...


class Block(Protocol):
    """One decoder block; ``linears`` are the layers an adapter may wrap, by their short names."""

    linears: dict[str, Projection]

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, /, *positions: Tensor) -> Tensor: ...


class Decoder:
    """A causal language model in the simulator; ``leaves`` are its trainable parameters."""

    table_name = "embed_tokens.weight"  # In checkpoints, by whose order quantized models are loaded.

    def __init__(self, tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> None:
        adapter = workload.adapter
        self.shape = shape
        self.workload = workload
        self.kind = kind
        store = self.store = Store(
            tape, workload.precision.params, trainable=adapter is None, quantized=workload.quantization
        )
        table = (shape.vocab_size, self.embedding_width())
        self.embed_tokens = store.parameter(self.table_name, table, "embeddings")
        self.make_positions(store)
        self.blocks = [self.make_block(store, index) for index in self.layers()]
        self.norm = self.make_norm(store)
        self.make_buffers(store)
        tied = shape.tie_word_embeddings
        self.head = self.embed_tokens if tied else store.parameter("lm_head.weight", table, "decoder_matrix")
        store.loaded()
        self.leaves = store.leaves
        if adapter is not None:
            if adapter.prepare_kbit:
                store.prepare_kbit()
            adapters = Store(tape, adapter.dtype, trainable=True)
            for block in self.blocks:
                self.adapt(block, adapter, adapters)
            self.leaves = [*self.copies(adapters, adapter), *adapters.leaves]
            if adapter.half_embeddings:
                store.halve_embeddings()

    # What a family says.

    def make_block(self, store: Store, index: int, /) -> Block:
        """The block at a depth."""
        raise NotImplementedError

    def make_norm(self, store: Store) -> Module:
        """The norm behind the last block."""
        return RMSNorm(store, "norm", self.shape.hidden_size)

    def embedding_width(self) -> int:
        """The width of the embedding tables, which may be less than that of the blocks."""
        return self.shape.hidden_size

    def make_positions(self, store: Store) -> None:
        """Parameters of learned positions, which are loaded right after the embeddings."""

    def make_buffers(self, store: Store) -> None:
        """Buffers of rotary positions."""
        self.rotary = Rotary(store, self.shape.head_dim)

    def embed(self, tokens: Tensor) -> Tensor:
        """The input embeddings."""
        return ops.embedding(self.embed_tokens, tokens)

    def scale(self, inputs_embeds: Tensor) -> Tensor:
        """What takes the place of the embeddings before anything else is made of them."""
        return inputs_embeds

    def place(self, _: Tensor, /) -> list[Tensor]:
        """What is made of the embeddings before the masks: the last of these enters, the others are held."""
        return []

    def settle(self, _: list[Tensor], __: list[Tensor], /) -> list[Tensor]:
        """What is made of the embeddings after the masks, as in ``place``; it may replace the embeddings."""
        return []

    def enter(self, inputs_embeds: Tensor) -> Tensor:
        """What becomes of the embeddings before the first block (scaling, added positions)."""
        return inputs_embeds

    def positions(self, hidden_states: Tensor) -> tuple[Tensor, ...]:
        """Tensors that every block gets besides the hidden states: rotary tables."""
        return self.rotary(hidden_states, hidden_states.shape[1])

    def masks(self, hidden_states: Tensor) -> dict[str, Tensor | None]:
        """Attention masks by type of layer: eager attention always gets one, SDPA if it must."""
        return {name: self.mask(hidden_states, name) for name in self.mask_types()}

    def mask_types(self) -> tuple[str, ...]:
        """The types of layers that masks are made for."""
        return tuple(dict.fromkeys(self.shape.layer_types)) or (self.shape.layer_type(0),)

    def mask_arguments(self, _: Tensor, /) -> dict[str, Tensor]:
        """What the forward pass collects to make several masks with, and so holds to its end."""
        return {}

    def layer_type(self, index: int, /) -> str:
        """Which of the masks a block uses."""
        return self.shape.layer_type(index)

    def layer_positions(self, positions: tuple[Tensor, ...], _: int, /) -> tuple[Tensor, ...]:
        """Which of the tensors of ``positions`` a block gets."""
        return positions

    def project(self, hidden_states: Tensor) -> Tensor:
        """Logits of hidden states."""
        return linear(hidden_states, self.head)

    def adapt(self, block: Block, adapter: Adapter, store: Store) -> None:
        """Put adapters into a block."""
        block.linears = adapt(block.linears, adapter, store)

    # What all of them do.

    def copies(self, store: Store, adapter: Adapter) -> list[Leaf]:
        """Embeddings and head as trained copies (``ModulesToSaveWrapper``); the originals stay, frozen.

        The copies have the original's dtype. An optimizer meets the embeddings before any adapter.
        """
        self.originals = (self.embed_tokens, self.head)
        first: list[Leaf] = []
        if "embed_tokens" in adapter.modules_to_save:
            self.embed_tokens = store.copy(self.embed_tokens)
            first.append(store.leaves.pop())
        if "lm_head" in adapter.modules_to_save:
            self.head = store.copy(self.head)
        return first

    def layers(self) -> Iterator[int]:
        """The depths of the blocks that are simulated; allocations belong to the current one."""
        return self.store.tape.layers(self.shape.num_hidden_layers)

    def kernel(self, index: int) -> Attention:
        """The attention kernel of the block at a depth: what SDPA leads to may differ by type of layer."""
        if self.workload.attention is not Attention.SDPA:
            return self.kind
        layer_type = self.shape.layer_type(index)
        return choose(self.shape, self.workload, self.store.tape.capability, layer_type)

    def mask(self, hidden_states: Tensor, layer_type: str) -> Tensor | None:
        """One mask for the attention kernel in use; FlashAttention-2 takes none."""
        tape = hidden_states.tape
        tape.scope = "causal_mask"
        length = keys = hidden_states.shape[1]
        needed = needs_mask(self.shape, self.workload, layer_type)
        if tape.cache is not None:
            window = self.window(layer_type)
            keys = tape.cache.layer(sliding=window is not None).attended(length)
            needed = self.shape.masked or self.workload.causal_mask or tape.cache.masked(length, window)
        if self.kind is Attention.EAGER:
            return masks.additive(masks.causal(hidden_states, length, keys), hidden_states.dtype)
        if needed and self.workload.attention is not Attention.FLASH_ATTENTION_2:
            return masks.causal(hidden_states, length, keys)
        return None

    def inputs(self, tape: Tape, batch: int) -> tuple[Tensor, Tensor]:
        """Token ids and labels (B, S)."""
        size = (batch, self.workload.sequence.length)
        return tape.empty(size, Dtype.INT64, "input_ids"), tape.empty(size, Dtype.INT64, "labels")

    def logit_sides(self) -> tuple[int, ...]:
        """The sides of the logits of one sequence."""
        return self.workload.sequence.length, self.shape.vocab_size

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The causal language-model loss and the logits of a batch."""
        tape = tokens.tape
        hidden_states = self.hidden(tokens)
        tape.component, tape.scope = "logits_and_loss", "lm_head"
        kind, evaluation = self.workload.loss, self.workload.evaluation
        whole = not tape.training and evaluation is not None and evaluation.makes_logits(kind)
        if kind.kind in FUSED and not whole:
            tape.trace.enter(Phase.LOSS)
            loss = FUSED[kind.kind](hidden_states, self.head, labels)
            tape.component = "activations"
            return loss, loss
        logits = self.project(hidden_states)
        tape.trace.enter(Phase.LOSS)
        tape.scope = "loss"
        if tape.framework.transformers_before(4, 46):
            # The loss was part of each model's forward pass, where the upcast logits take the others' name.
            logits = ops.to(logits, Dtype.FP32)
        loss = (
            chunked_loss(logits, labels, kind.chunks)
            if kind.kind == "chunked"
            else causal_lm_loss(logits, labels, in_place=kind.kind == "liger_cross_entropy")
        )
        tape.component = "activations"
        return loss, logits

    def window(self, layer_type: str) -> int | None:
        """The sliding window of layers of a type, if they have one."""
        return self.shape.sliding_window if layer_type == "sliding_attention" else None

    def windows(self) -> list[int | None]:
        """The sliding windows of all layers that keep keys and values."""
        return [self.window(self.shape.layer_type(index)) for index in self.layers()]

    def logits(self, tokens: Tensor, *, last: bool) -> Tensor:
        """Logits of all positions, or of the last one (``logits_to_keep=1``)."""
        hidden_states = self.hidden(tokens)
        tape = tokens.tape
        tape.component, tape.scope = "logits_and_loss", "lm_head"
        logits = self.project(shapes.last_rows(hidden_states, 1) if last else hidden_states)
        tape.component = "activations"
        return logits

    def hidden(self, tokens: Tensor) -> Tensor:
        """The last hidden states.

        Adapters under checkpointing need gradients of embeddings (PEFT's ``enable_input_require_grads``).
        """
        tape = tokens.tape
        tape.scope = "embed_tokens"
        embeds = [self.embed(tokens)]
        wanted = self.workload.checkpointing
        if self.workload.adapter is not None and wanted.every and embeds[0].node is None:
            require_grad(embeds[0], "embed_tokens")
        embeds[0] = self.scale(embeds[0])
        held = self.place(embeds[0])
        attention_masks = self.masks(embeds[0])
        if tape.cache is not None:
            tape.cache.holds(attention_masks)
        _mask_arguments = self.mask_arguments(embeds[0])
        added = self.settle(embeds, held)
        hidden_states = self.enter((added or held or embeds.copy()).pop())
        positions = self.positions(hidden_states)
        run = reentrant if wanted.reentrant else checkpoint
        run = offloading(run) if wanted.offload else run
        alone = partial(self.checkpointed, run)
        for piece in pieces(tape, self.shape.num_hidden_layers, wanted):
            others = self.beside(piece, attention_masks, positions)
            hidden_states = through(piece, self.blocks, hidden_states, others, run, alone)
            del others  # So that masks and positions go in the order of their own names.
        # Rebinding frees the last block's result before the masks go, as in transformers.
        hidden_states = self.norm(hidden_states)
        return hidden_states  # noqa: RET504

    def beside(self, piece: Piece, masks: Masks, positions: tuple[Tensor, ...]) -> list[Arguments]:
        """What each block of a piece gets besides hidden states."""
        return [(masks[self.layer_type(at)], *self.layer_positions(positions, at)) for *_, at in piece.places]

    def checkpointed(self, run: Callable[..., Tensor], block: Block, *arguments: Tensor | None) -> Tensor:
        """A block run by a function that checkpoints; a sharding may put its hooks around that."""
        return run(block, *arguments)

    def groups(self) -> tuple[ParameterGroup, ...]:
        """The model's own parameters, alike ones counted together."""
        counted = Counter((entry.name, entry.component, entry.shape) for entry in self.store.parameters)
        return tuple(
            ParameterGroup(name=name, component=component, shape=shape, copies=copies)
            for (name, component, shape), copies in counted.items()
        )
