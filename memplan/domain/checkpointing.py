"""Activation checkpointing: which blocks keep only their input and run their forward pass again."""

from __future__ import annotations

from dataclasses import dataclass

MOST_RUNS = 4
"""Runs of blocks that a name tells apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpointing:
    """Which blocks are recomputed in backward, and in how many at a time; ``every`` 0 keeps all activations.

    Of the blocks from ``start`` on every ``every``-th is checkpointed, or of ``blocks``, if these are named,
    all. ``chunk`` blocks in a row make one region that keeps the input of the first alone (Chen et al.,
    arXiv:1604.06174); the last region may be shorter.

    ``reentrant`` is the older variant (``use_reentrant=True``). With ``offload`` the regions' inputs wait in
    host memory.
    """

    every: int = 0
    chunk: int = 1
    start: int = 0
    blocks: tuple[int, ...] | None = None
    reentrant: bool = False
    offload: bool = False

    @property
    def full(self) -> bool:
        """Whether every block is checkpointed, each by itself."""
        return self.every == 1 and not self.partial

    @property
    def partial(self) -> bool:
        """Whether it is on for some blocks, or for several at a time: what most frameworks cannot say."""
        return self.every > 1 or (self.every == 1 and not self.strided)

    @property
    def strided(self) -> bool:
        """Whether ``every`` says it all: single blocks, counted from the first."""
        return (self.chunk, self.start, self.blocks) == (1, 0, None)

    @property
    def name(self) -> str:
        """``none``, ``full``, ``every 2``, ``chunks of 4``, ``first 12 blocks`` or ``blocks 1, 3, 5``."""
        if self.blocks is not None and self.every:
            return _named(self.blocks)
        place = f" from block {self.start}" if self.start and self.every else ""
        if self.chunk > 1 and self.every:
            return f"chunks of {self.chunk}{place}"
        if self.every == 1 and place:
            return f"full{place}"
        return {0: "none", 1: "full"}.get(self.every, f"every {self.every}{place}")

    def regions(self, layers: int) -> tuple[range, ...]:
        """The blocks of each region of a model of so many, in order."""
        if not self.every:
            return ()
        if self.blocks is not None:
            return tuple(range(block, block + 1) for block in self.blocks if block < layers)
        first = range(self.start, layers, self.every * self.chunk)
        return tuple(range(block, min(block + self.chunk, layers)) for block in first)

    def recomputed(self, layers: int) -> int:
        """How many blocks of so many run their forward pass twice."""
        return sum(len(region) for region in self.regions(layers))


def _named(blocks: tuple[int, ...]) -> str:
    if blocks == tuple(range(len(blocks))):
        return f"first {len(blocks)} blocks"
    spans = [(block, block) for block in blocks]
    merged = spans[:1]
    for low, high in spans[1:]:
        if low == merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    told = [str(low) if low == high else f"{low}-{high}" for low, high in merged]
    if len(told) > MOST_RUNS:
        return f"{len(blocks)} blocks: {', '.join(told[: MOST_RUNS - 1])}, … {told[-1]}"
    return "blocks " + ", ".join(told)
