"""``memplan.mechanisms.context.decoder`` without numbers: what training and reading allocate on a CPU.

Names of functions and variables are those of the library, and so are their lifetimes.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention
from memplan.programs.context_cache import Layer
from memplan.simulator import ops, shapes
from memplan.simulator.activations import gelu
from memplan.simulator.attention import sdpa
from memplan.simulator.autograd import Leaf
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.norms import layer_norm
from memplan.simulator.splits import split_last
from memplan.simulator.tensor import Parameter, Tape, Tensor

EXPANSION = 4
NUMBER = Dtype.FP32

_MANY, _SOME = (768, 256), (192, 64)
_FEW = 32
_KEYS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sides of the decoder: L layers of H heads of width D beside a stream of ``hidden`` numbers."""

    layers: int
    heads: int
    head_dim: int
    hidden: int
    vocab: int
    interval: int

    @property
    def width(self) -> int:
        """All heads of a token."""
        return self.heads * self.head_dim


class Block:
    """``Block``: two norms and four products, without biases."""

    def __init__(self, store: Store, sizes: Sizes) -> None:
        name, hidden = "blocks.*", sizes.hidden
        self.sizes = sizes
        self.norm = store.parameter(f"{name}.norm.weight", (hidden,))
        self.states = Linear(store, f"{name}.states", hidden, 3 * sizes.width)
        self.output = Linear(store, f"{name}.output", sizes.width, hidden)
        self.middle_norm = store.parameter(f"{name}.middle_norm.weight", (hidden,))
        self.up = Linear(store, f"{name}.up", hidden, EXPANSION * hidden)
        self.down = Linear(store, f"{name}.down", EXPANSION * hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Attention within ``x`` (1, T, hidden): the kernel of a CPU saves queries, keys, values and sums."""
        query, key, value = self._split(x)
        attended = sdpa(Attention.FLASH_ATTENTION_2, query, key, value, None)
        x = ops.add(x, self.output(_joined(attended)))
        return ops.add(x, self.down(gelu(self.up(layer_norm(x, self.middle_norm)))))

    def read(self, x: Tensor, layer: Layer, chunk: int) -> Tensor:
        """Attention to what is cached before, a chunk at a time, and to itself."""
        query, key, value = self._split(x)
        attended = _attend(query, layer, chunk)
        layer.append(key)
        del query, key, value
        x = ops.add(x, self.output(_joined(shapes.transpose(attended, 1, 2))))
        del attended
        return ops.add(x, self.down(gelu(self.up(layer_norm(x, self.middle_norm)))))

    def _split(self, x: Tensor) -> list[Tensor]:
        states = self.states(layer_norm(x, self.norm))
        width, heads = self.sizes.width, (self.sizes.heads, self.sizes.head_dim)
        return [
            shapes.transpose(shapes.view(part, (*part.shape[:2], *heads)), 1, 2)
            for part in split_last(states, (width, width, width))
        ]


class Decoder:
    """``Decoder``: the parameters are there from the start; ``leaves`` are their gradients' places."""

    def __init__(self, tape: Tape, sizes: Sizes) -> None:
        self.tape = tape
        self.sizes = sizes
        self.store = Store(tape, NUMBER, trainable=True)
        parameter = self.store.parameter
        self.embedding = parameter("embedding.weight", (sizes.vocab, sizes.hidden), "embeddings")
        self.blocks = [Block(self.store, sizes) for _ in range(sizes.layers)]
        self.norm = parameter("norm.weight", (sizes.hidden,))
        self.head = Linear(self.store, "head", sizes.hidden, sizes.vocab, component="decoder_matrix")

    @property
    def parameters(self) -> list[Parameter]:
        """All of them, in their order."""
        return self.store.parameters

    @property
    def leaves(self) -> list[Leaf]:
        """One for each of them."""
        return self.store.leaves

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (T, vocab); within a checkpointed group of blocks nothing is kept."""
        x = ops.embedding(self.embedding, tokens)
        step = self.sizes.interval or len(self.blocks)
        for start in range(0, len(self.blocks), step):
            group = self.blocks[start : start + step]
            x = checkpoint(_Through(group), x) if self.sizes.interval else _Through(group)(x)
        normed = layer_norm(x, self.norm)
        del x
        self.tape.component = "logits_and_loss"
        return self.head(shapes.view(normed, normed.shape[1:]))

    def read(self, length: int, layers: list[Layer], chunk: int) -> Tensor:
        """Hidden states (length, hidden); chunks between the second and the last do what the second does."""
        tape = self.tape
        tape.component = "hidden_states"
        hidden = tape.empty((length, self.sizes.hidden), NUMBER, "empty")
        tape.component = "activations"
        chunk = min(chunk, length) or length
        for count in _chunks(length, chunk):
            rows = tape.empty((count, self.sizes.hidden), NUMBER, "embedding")
            x = shapes.unsqueeze(rows, 0)
            del rows
            for block, layer in zip(self.blocks, layers, strict=True):
                x = block.read(x, layer, chunk)
            _ = layer_norm(x, self.norm)
            del _, x
        return hidden


class _Through:
    """Some blocks, one after the other."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks

    def __call__(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block.forward(x)
        return x


def _joined(x: Tensor) -> Tensor:
    """Heads side by side again, ``flatten(2)`` of (1, T, H, D): a view."""
    return shapes.view(x, (*x.shape[:2], x.shape[2] * x.shape[3]))


def _chunks(length: int, chunk: int) -> list[int]:
    """Tokens of the first chunk, of one like all between, and of the last."""
    count, rest = divmod(length, chunk)
    return [chunk] * min(count, 2) + ([rest] if rest else [])


def _attend(query: Tensor, layer: Layer, chunk: int) -> Tensor:
    """``_attend``: a result and its sums; for every cached chunk the same again, joined in place."""
    length = query.shape[2]
    attended, sums = _flash(query, length)
    for _ in range(layer.chunks):
        read = layer.read(chunk)
        part, more = _flash(query, chunk)
        share = ops.like(sums, "sub")
        del read, part, share
        sums = ops.like(sums, "logaddexp")
        del more
    del sums
    return attended


def _flash(query: Tensor, keys: int) -> tuple[Tensor, Tensor]:
    """``_scaled_dot_product_flash_attention_for_cpu``: result, sums, and the scratch of one thread.

    Scores of a block of queries to one of keys, their maxima and sums, and the result of the block
    (``size_per_thread`` in aten/src/ATen/native/cpu/FlashAttentionKernel.cpp).
    """
    tape = query.tape
    _, heads, count, width = query.shape
    attended = ops.like(query, "flash_attention")
    sums = tape.empty((1, heads, count), NUMBER, "logsumexp")
    rows = next((block for least, block in (_MANY, _SOME) if count >= least), _FEW)
    rows = min(rows, count)
    scratch = tape.empty((rows * (min(keys, _KEYS) + 2 + width),), NUMBER, "flash_blocks")
    del scratch
    return attended, sums
