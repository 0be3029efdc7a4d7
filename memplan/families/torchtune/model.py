"""torchtune's ``TransformerDecoder`` and the losses of its recipes (0.6).

Logits come whole, in fp32, or in pieces for ``CEWithChunkedOutputLoss``; the recipes delete them before
backward. Source: torchtune/modules/transformer.py, torchtune/modules/loss/ce_chunked_output_loss.py,
recipes/full_finetune_single_device.py.

Shapes: token ids (B, S), hidden states (B, S, h), logits (B, S, V).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from memplan.domain.architecture import Architecture, ParameterGroup
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Workload
from memplan.families.torchtune.block import Block, LoraLinear, RMSNorm
from memplan.simulator import ops, shapes
from memplan.simulator.blocks import Store
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.loss import log_softmax, nll_loss
from memplan.simulator.matmul import linear, rows
from memplan.simulator.regions import pieces, through
from memplan.simulator.splits import split
from memplan.simulator.tensor import Parameter, Tape, Tensor


class TransformerDecoder:
    """A model in the simulator; ``leaves`` are its trainable parameters."""

    def __init__(self, tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> None:
        adapter = workload.adapter
        self.shape = shape
        self.workload = workload
        self.tape = tape
        store = Store(tape, workload.precision.params, trainable=adapter is None)
        adapters = Store(tape, adapter.dtype if adapter else store.dtype, trainable=True)
        sides = shape.hidden_size, shape.vocab_size
        self.embeddings = store.parameter("tok_embeddings.weight", sides[::-1], "embeddings")
        tables = self._tables()
        self.blocks = [Block(store, adapters, shape, adapter, kind, tables) for _ in self.layers()]
        self.norm = RMSNorm(store, "norm", shape.hidden_size)
        self.output = (
            None if shape.tie_word_embeddings else LoraLinear(store, adapters, adapter, "output", sides)
        )
        self.store = store
        self.parameters = store.parameters
        self.leaves = store.leaves if adapter is None else adapters.leaves

    def layers(self) -> Iterator[int]:
        """The depths of the blocks that are simulated; allocations belong to the current one."""
        return self.tape.layers(self.shape.num_hidden_layers)

    def inputs(self, tape: Tape, batch: int) -> tuple[Tensor, Tensor]:
        """Token ids and labels (B, S)."""
        size = (batch, self.workload.sequence.length)
        return tape.empty(size, Dtype.INT64, "input_ids"), tape.empty(size, Dtype.INT64, "labels")

    def logit_sides(self) -> tuple[int, ...]:
        """The sides of the logits of one sequence."""
        return self.workload.sequence.length, self.shape.vocab_size

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, twice: the recipes have no logits left when backward begins."""
        tape = tokens.tape
        chunked = self.workload.loss.kind == "chunked"
        logits = self._forward(tokens)
        tape.trace.enter(Phase.LOSS)
        tape.scope = "loss"
        shifted = tape.empty(labels.shape, Dtype.INT64, "hstack")
        found = _of_pieces(logits, shifted) if chunked else _of_whole(logits.pop(), shifted)
        tape.component = "activations"
        return found, found

    def groups(self) -> tuple[ParameterGroup, ...]:
        """The model's own parameters, alike ones counted together."""
        counted = Counter((entry.name, entry.component, entry.shape) for entry in self.parameters)
        return tuple(
            ParameterGroup(name=name, component=component, shape=shape, copies=copies)
            for (name, component, shape), copies in counted.items()
        )

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Cosines and sines (1, S, 1, D / 2) of every position the model knows: one fp32 buffer."""
        sides = (self.shape.max_position_embeddings, self.shape.head_dim // 2, 2)
        cache = Parameter(self.tape, sides, Dtype.FP32, "blocks", "pos_embeddings.cache")
        shape = (1, self.workload.sequence.length, 1, sides[1])
        strides = (sides[0] * sides[1] * 2, sides[1] * 2, sides[1] * 2, 2)
        return cache.alias(shape, strides), cache.alias(shape, strides)

    def _forward(self, tokens: Tensor) -> list[Tensor]:
        """``forward``, which holds the last block's result until the logits are there."""
        h = self._hidden(tokens)
        return self._unembed(h)

    def _unembed(self, h: Tensor) -> list[Tensor]:
        """``unembed``: all logits, upcast, or pieces in the model's dtype (``chunked_output``)."""
        h = self.norm(h)
        self.tape.component, self.tape.scope = "logits_and_loss", "output"
        if self.workload.loss.kind != "chunked":
            return [ops.to(self._projected(h), Dtype.FP32)]
        return [
            self._projected(piece) for piece in split(h, 1, _widths(h.shape[1], self.workload.loss.chunks))
        ]

    def _projected(self, x: Tensor) -> Tensor:
        if self.workload.adapter is None:
            x = rows(x)
        return linear(x, self.embeddings) if self.output is None else self.output(x)

    def _hidden(self, tokens: Tensor) -> Tensor:
        self.tape.scope = "tok_embeddings"
        h = ops.embedding(self.embeddings, tokens)
        for piece in pieces(self.tape, self.shape.num_hidden_layers, self.workload.checkpointing):
            h = through(piece, self.blocks, h, [()] * len(piece.places), checkpoint)
        return h


def _widths(length: int, chunks: int) -> list[int]:
    """Sizes of ``chunk``: all alike but the last, and perhaps fewer than asked for."""
    width = -(-length // chunks)
    return [min(width, length - start) for start in range(0, length, width)]


def _of_whole(logits: Tensor, labels: Tensor) -> Tensor:
    """``CrossEntropyLoss`` on all rows, times the number of tokens."""
    batch, length, vocabulary = logits.shape
    return ops.mul_scalar(nll_loss(log_softmax(shapes.view(logits, (batch * length, vocabulary))), labels))


def _of_pieces(logits: list[Tensor], labels: Tensor) -> Tensor:
    """``CEWithChunkedOutputLoss``: pieces are upcast one at a time, their log-probabilities stay."""
    tape = labels.tape
    batch = labels.shape[0]
    elements = tape.empty((), Dtype.INT64, "sum")
    targets = [tape.empty((batch * piece.shape[1],), Dtype.INT64, "reshape") for piece in logits]
    pieces = [shapes.view(piece, (batch * piece.shape[1], piece.shape[2])) for piece in logits]
    total: Tensor | None = None
    for piece, target in zip(pieces, targets, strict=True):
        own = nll_loss(log_softmax(ops.to(piece, Dtype.FP32)), target)
        total = own if total is None else ops.add(total, own)
    assert total is not None
    result = ops.mul_scalar(total)
    del elements
    return result
