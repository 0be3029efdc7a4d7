"""litgpt's ``GPT``: one class for every family, its switches read off the architecture.

The head is never tied to the embeddings. Finetuning with adapters makes logits in pieces; Fabric upcasts what
the model returns (see ``loss``). Source: litgpt/model.py, litgpt/lora.py, litgpt/finetune/lora.py.

Shapes: token ids (B, T), hidden states (B, T, C), logits (B, T, V).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from weakref import ref

from memplan.domain.architecture import Architecture, ParameterGroup
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Task, Workload
from memplan.families.litgpt import loss
from memplan.families.litgpt.block import Block, norm
from memplan.families.litgpt.design import Release, design, windowed
from memplan.families.litgpt.layers import LoraLinear, Stores, Weights
from memplan.families.litgpt.memory import KeyValues
from memplan.simulator import ops, shapes
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.regions import pieces, through
from memplan.simulator.splits import split
from memplan.simulator.tensor import Parameter, Tape, Tensor


class Pieces(Tensor):
    """What a loop's variable ``logits`` holds until it gets the next ones; itself no more than the loss."""

    __slots__ = ("__weakref__", "pieces")

    def __init__(self, loss: Tensor, pieces: list[Tensor]) -> None:
        super().__init__(loss.tape, loss.storage, loss.shape, loss.strides, loss.dtype)
        self.pieces = pieces


class Gpt:
    """A model in the simulator; ``leaves`` are its trainable parameters."""

    def __init__(self, tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> None:
        self.shape = design(shape)
        self.workload = workload
        self.tape = tape
        self.kind = workload.attention if workload.attention is not Attention.SDPA else kind
        release = Release.of(workload.framework)
        adapter = workload.adapter
        weights = Weights(
            tape, workload.precision.params, trainable=adapter is None, bits=workload.quantization
        )
        stores = Stores(tape, weights, adapter, release)
        sides = self.shape.width, self.shape.vocabulary
        self.head = LoraLinear(stores, "lm_head", sides, "head", bias=self.shape.head_bias)
        self.embeddings = weights.parameter("wte.weight", sides[::-1], "embeddings")
        sliding = windowed(shape, workload.framework)
        self.blocks = [
            Block(stores, self.shape, release, self._kernel(), windowed=sliding) for _ in self.layers()
        ]
        self.ln_f = norm(weights, "ln_f", self.shape, release)
        self.store = weights
        self.parameters = weights.parameters
        self.leaves = weights.leaves if adapter is None else stores.adapters.leaves
        self.tables: tuple[Tensor, Tensor] | None = None
        self.mask: Tensor | None = None
        self.last: Callable[[], Pieces | None] = lambda: None
        if workload.task is Task.TRAIN:
            self._make_tables(workload.sequence.length)

    def layers(self) -> Iterator[int]:
        """The depths of the blocks that are simulated; allocations belong to the current one."""
        return self.tape.layers(self.shape.depth)

    def inputs(self, tape: Tape, batch: int) -> tuple[Tensor, Tensor]:
        """Token ids and labels (B, T)."""
        size = (batch, self.workload.sequence.length)
        return tape.empty(size, Dtype.INT64, "input_ids"), tape.empty(size, Dtype.INT64, "labels")

    def logit_sides(self) -> tuple[int, ...]:
        """The sides of the logits of one sequence."""
        return self.workload.sequence.length, self.shape.vocabulary

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the logits that the recipe's loop holds until it has the next ones."""
        tape = tokens.tape
        pieces = self._converted(self._pieces(tokens))
        # The loop's variable is bound anew before there is another loss.
        previous = self.last()
        if previous is not None:
            previous.pieces = []
        tape.trace.enter(Phase.LOSS)
        tape.scope = "loss"
        if self.workload.adapter is not None:
            pieces[-1] = shapes.narrow(pieces[-1], 1, pieces[-1].shape[1] - 1)
            found = loss.of_pieces(pieces, labels)
        else:
            found = loss.of_whole(pieces[0], labels)
        tape.component = "activations"
        kept = Pieces(found, pieces)
        self.last = ref(kept)
        return found, kept

    def logits(self, tokens: Tensor, *, last: bool) -> Tensor:
        """Logits while generating; litgpt makes them for all positions, then looks at the last."""
        tape = tokens.tape
        if self.tables is None:
            self._prepare(tape, tokens.shape)
        hidden = self._hidden(tokens)
        tape.component, tape.scope = "logits_and_loss", "lm_head"
        logits = ops.to(self.head(hidden), Dtype.FP32)
        tape.component = "activations"
        return shapes.last_rows(logits, 1) if last else logits

    def windows(self) -> list[int | None]:
        """None of the caches that transformers would keep: litgpt's blocks hold their own."""
        return []

    def groups(self) -> tuple[ParameterGroup, ...]:
        """The model's own parameters, alike ones counted together."""
        counted = Counter((entry.name, entry.component, entry.shape) for entry in self.parameters)
        return tuple(
            ParameterGroup(name=name, component=component, shape=shape, copies=copies)
            for (name, component, shape), copies in counted.items()
        )

    def _pieces(self, tokens: Tensor) -> list[Tensor]:
        """Logits as the model returns them: of the whole sequence, or in pieces to train adapters."""
        x = self._hidden(tokens)
        self.tape.component, self.tape.scope = "logits_and_loss", "lm_head"
        if self.workload.adapter is None:
            return [self.head(x)]
        return [self.head(piece) for piece in split(x, 1, loss.widths(x.shape[1]))]

    def _converted(self, output: list[Tensor]) -> list[Tensor]:
        """What Fabric's wrapper makes of a model's output."""
        self.tape.scope = "convert_output"
        return [ops.to(piece, Dtype.FP32) for piece in output]

    def _hidden(self, tokens: Tensor) -> Tensor:
        """The last hidden states."""
        tape = tokens.tape
        tape.scope = "wte"
        x = ops.embedding(self.embeddings, tokens)
        if self.shape.scaled:
            x = ops.mul_scalar(x)
        assert self.tables is not None
        for piece in pieces(tape, self.shape.depth, self.workload.checkpointing):
            beside = [(self.mask, *self.tables)] * len(piece.places)
            x = through(piece, self.blocks, x, beside, checkpoint)
        x = self.ln_f(x)
        return x  # noqa: RET504

    def _kernel(self) -> Attention:
        """Keys are spread over all heads, so what a kernel says of grouped ones does not count."""
        return Attention.SDPA if self.workload.attention is Attention.SDPA else self.kind

    def _make_tables(self, length: int) -> None:
        """Rotary tables (T, D) in fp32, made anew for the longest sequence."""
        sides = (length, self.shape.rotary)
        cosine, sine = (
            Parameter(self.tape, sides, Dtype.FP32, "blocks", f"rope_cache.{name}") for name in ("cos", "sin")
        )
        self.tables = cosine, sine

    def _prepare(self, tape: Tape, size: tuple[int, ...]) -> None:
        """Tables, mask and caches for everything that will be generated (``set_kv_cache``)."""
        batch, prompt = size
        length = prompt + self.workload.generate.new_tokens
        self._make_tables(length)
        shape, framework = self.shape, self.workload.framework
        whole = framework.litgpt_before(0, 5, 5) and shape.groups != 1
        heads = shape.heads if whole else shape.groups
        sides = (batch, heads, length, shape.head)
        for _, block in zip(self.layers(), self.blocks, strict=True):
            block.attn.cache = KeyValues(tape, sides, self.workload.precision.params)
        tape.scope = "mask_cache"
        self.mask = tape.empty((1, 1, prompt, length), Dtype.BOOL, "tril")
