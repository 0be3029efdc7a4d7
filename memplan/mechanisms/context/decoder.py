"""A small transformer decoder that trains on windows, and reads contexts that it could not hold at once.

Shapes: tokens (T,), hidden states (1, T, hidden), heads (1, heads, T, head_dim). There are no positional
encodings: causal attention alone tells tokens apart by their place.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from memplan.domain.errors import FieldError
from memplan.mechanisms.context.layer import MappedLayer
from memplan.mechanisms.context.mapped import MappedCache

EXPANSION = 4
"""How much wider the middle of a feed-forward layer is."""


class Block(nn.Module):  # type: ignore[misc]
    """Attention and a feed-forward layer, each after a norm and beside a residual stream; no biases."""

    def __init__(self, heads: int, head_dim: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        width = heads * head_dim
        self.norm = nn.LayerNorm(hidden, bias=False)
        self.states = nn.Linear(hidden, 3 * width, bias=False)
        self.output = nn.Linear(width, hidden, bias=False)
        self.middle_norm = nn.LayerNorm(hidden, bias=False)
        self.up = nn.Linear(hidden, EXPANSION * hidden, bias=False)
        self.down = nn.Linear(EXPANSION * hidden, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Causal attention within ``x`` (1, T, hidden); what training runs."""
        query, key, value = self._split(x)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        return x + self.down(functional.gelu(self.up(self.middle_norm(x))))

    def read(self, x: torch.Tensor, layer: MappedLayer, chunk: int, stored: torch.dtype) -> torch.Tensor:
        """The same for tokens that come after all that ``layer`` holds, which is read a chunk at a time."""
        query, key, value = self._split(x)
        attended = _attend(query, key, value, layer, chunk)
        layer.append(key.to(stored), value.to(stored))
        del query, key, value
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        del attended
        return x + self.down(functional.gelu(self.up(self.middle_norm(x))))

    def _split(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        """Queries, keys and values of a normed input: views of one product."""
        states = self.states(self.norm(x))
        parts = states.split(states.shape[-1] // 3, -1)
        return (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)


class Decoder(nn.Module):  # type: ignore[misc]
    """Embedding, blocks, a norm and a head, in fp32.

    Args:
        layers, heads, head_dim, hidden, vocab: its sizes.
        interval: in training, keep the input of every ``interval``-th block only, and compute the rest again
            in backward; 0 keeps all.

    Raises:
        FieldError: a size below 1, or an interval beyond the layers.
    """

    def __init__(
        self, *, layers: int, heads: int, head_dim: int, hidden: int, vocab: int, interval: int = 0
    ) -> None:
        super().__init__()
        if min(layers, heads, head_dim, hidden, vocab) < 1:
            raise FieldError("a decoder with a side of 0", expected="1 or more of each")
        if not 0 <= interval <= layers:
            raise FieldError(f"checkpoints every {interval} of {layers} layers", expected=f"0 to {layers}")
        self.interval = interval
        self.embedding = nn.Embedding(vocab, hidden)
        self.blocks = nn.ModuleList(Block(heads, head_dim, hidden) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden, bias=False)
        self.head = nn.Linear(hidden, vocab, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (T, vocab) of tokens (T,)."""
        x = self.embedding(tokens.unsqueeze(0))
        for start in range(0, len(self.blocks), self.interval or len(self.blocks)):
            group = self.blocks[start : start + (self.interval or len(self.blocks))]
            if self.interval and torch.is_grad_enabled():
                x = checkpoint(_through, group, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = _through(group, x)
        return self.head(self.norm(x).squeeze(0))

    def read(
        self,
        tokens: torch.Tensor,
        cache: MappedCache,
        *,
        chunk: int = 0,
        stored: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Hidden states (T, hidden) after the last norm, ``chunk`` tokens at a time (0: all at once).

        Each attends to all tokens before it that the cache holds, and is added to it. For every size of
        chunk the result is that of ``forward`` up to rounding; memory beside cache and result is that of a
        chunk. The cache gets keys and values as ``stored``.

        Raises:
            FieldError: no tokens, or a negative chunk.
            FileAccessError: the disk is full.
        """
        if not len(tokens) or chunk < 0:
            raise FieldError(f"{len(tokens)} tokens in chunks of {chunk}", expected="1 token or more")
        chunk = min(chunk, len(tokens)) or len(tokens)
        hidden = torch.empty(len(tokens), self.embedding.embedding_dim)
        with torch.no_grad():
            for start in range(0, len(tokens), chunk):
                part = slice(start, start + chunk)
                x = self.embedding(tokens[part]).unsqueeze(0)
                for block, layer in zip(self.blocks, cache.layers, strict=True):
                    x = block.read(x, layer, chunk, stored)
                hidden[part] = self.norm(x).squeeze(0)
        return hidden


def _through(blocks: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    for block in blocks:
        x = block(x)
    return x


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: MappedLayer, chunk: int
) -> torch.Tensor:
    """Attention of new tokens to themselves, causally, and to all that is cached, chunk by chunk.

    Parts are joined by the logarithms of their sums: of two, the second has the share
    ``sigmoid(second - first)``. The kernel is that of ``scaled_dot_product_attention`` on a CPU, which
    returns these sums beside its result.
    """
    attended, sums = _flash(query, key, value, causal=True)
    if not layer.tokens:
        return attended
    for keys, values in layer.chunks(chunk):
        part, more = _flash(query, keys.to(query.dtype), values.to(query.dtype), causal=False)
        share = torch.sub(more, sums).sigmoid_()
        attended.lerp_(part, share.unsqueeze(-1))
        sums = torch.logaddexp(sums, more)
        del part, more, share, keys, values
    return attended


def _flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result (1, heads, queries, head_dim), and the logarithms of sums (1, heads, queries)."""
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    attended, sums = kernel(query, key, value, 0.0, causal)
    return attended, sums
