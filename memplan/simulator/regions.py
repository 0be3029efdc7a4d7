"""A model's blocks, cut into what is checkpointed in one piece and what is not checkpointed at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from memplan.domain.checkpointing import Checkpointing
from memplan.domain.trace import OUTSIDE
from memplan.simulator.tensor import Tape, Tensor

Block = Callable[..., Tensor]
Run = Callable[..., Tensor]
Arguments = Sequence[Tensor | None]
Part = tuple[int, Block, Sequence[int]]
"""A block of a region: the layer its allocations belong to, and which arguments of the region it gets."""


class Place(NamedTuple):
    """One simulated block: its number among these, the layer its allocations belong to, its depth."""

    number: int
    layer: int
    depth: int


class Piece(NamedTuple):
    """Blocks that run one after the other: several only if they are checkpointed in one region."""

    places: tuple[Place, ...]
    checkpointed: bool


def pieces(tape: Tape, count: int, wanted: Checkpointing) -> Iterator[Piece]:
    """Those of ``count`` blocks that are simulated, in pieces; allocations belong to the current one."""
    regions = {index: region for region in wanted.regions(count) for index in region}
    places = [Place(number, *found) for number, found in enumerate(tape.places(count))]
    done = 0
    while done < len(places):
        region = regions.get(places[done].depth)
        end = done + 1
        while region is not None and end < len(places) and places[end].depth in region:
            end += 1
        tape.trace.layer = places[done].layer
        yield Piece(tuple(places[done:end]), region is not None)
        done = end
    tape.trace.layer = OUTSIDE


def through(
    piece: Piece,
    blocks: Sequence[Block],
    hidden_states: Tensor,
    beside: Sequence[Arguments],
    run: Run,
    alone: Run | None = None,
) -> Tensor:
    """Hidden states behind a piece of a model.

    ``beside`` is what each block of the piece gets besides; ``run`` runs a function under checkpointing, and
    ``alone`` a single block, if that goes another way.
    """
    if len(piece.places) > 1:
        return _together(run, hidden_states, piece, blocks, beside)
    block, arguments = blocks[piece.places[0].number], beside[0]
    if piece.checkpointed:
        return (alone or run)(block, hidden_states, *arguments)
    return block(hidden_states, *arguments)


def _together(
    run: Run, hidden_states: Tensor, piece: Piece, blocks: Sequence[Block], beside: Sequence[Arguments]
) -> Tensor:
    """Several blocks as one region: what any of them gets besides is an argument of it, once."""
    others: list[Tensor | None] = []
    parts: list[Part] = []
    for (number, layer, _), arguments in zip(piece.places, beside, strict=True):
        parts.append((layer, blocks[number], [_slot(others, argument) for argument in arguments]))
    return run(Chunk(parts), hidden_states, *others)


def _slot(others: list[Tensor | None], argument: Tensor | None) -> int:
    for slot, known in enumerate(others):
        if known is argument:
            return slot
    others.append(argument)
    return len(others) - 1


class Chunk:
    """Consecutive blocks as one function of hidden states."""

    __slots__ = ("parts",)

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts

    def __call__(self, hidden_states: Tensor, *others: Tensor | None) -> Tensor:
        trace = hidden_states.tape.trace
        layer = trace.layer
        try:
            for trace.layer, block, slots in self.parts:
                hidden_states = block(hidden_states, *[others[slot] for slot in slots])
        finally:
            trace.layer = layer
        return hidden_states
