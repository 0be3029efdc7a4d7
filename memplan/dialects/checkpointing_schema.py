"""How the native dialect spells which blocks are checkpointed, in both directions."""

from __future__ import annotations

from typing import Any

from memplan.dialects.fields import Value
from memplan.documents.tree import SequenceNode
from memplan.domain.checkpointing import Checkpointing

DEEPEST = 10_000
"""No model has more blocks, so checkpointing every further one means nothing."""

SPELLINGS = "none, full, {every: 2}, {chunk: 4} or {blocks: 12}"
_PLACES = {"every": 0, "chunk": 1, "start": 0}
"""Numbers by their names, and the lowest each may be."""

_FLAGS = ("reentrant", "offload")


def read(value: Value) -> Checkpointing:
    """``none``, ``full``, or a mapping of what is checkpointed and how.

    ``{every: 2}``: every second block. ``{chunk: 4}``: four at a time, which keep the input of the first.
    ``{every: 2, start: 1}``: from the second block on. ``{blocks: 12}``: the first twelve, ``{blocks: [0,
    5]}``: these. Beside any of them ``reentrant: true`` and ``offload: true``.

    Raises:
        FieldError: it says nothing of this, or names blocks and counts them as well.
    """
    if value.written():
        return Checkpointing(every=("none", "full").index(value.choice(("none", "full"))))
    entries = value.entries((*_PLACES, "blocks", *_FLAGS))
    places = {name: entries[name].whole(low, DEEPEST) for name, low in _PLACES.items() if name in entries}
    named = entries.get("blocks")
    if named is not None and places:
        raise named.fail(f"stands beside {next(iter(places))}", expected=f"one of the two: {SPELLINGS}")
    if named is None and not places:
        raise value.fail("says nothing", expected=SPELLINGS)
    blocks = None if named is None else _blocks(named)
    reentrant, offload = (name in entries and entries[name].flag() for name in _FLAGS)
    if places.get("every") == 0 or blocks == ():
        return Checkpointing(reentrant=reentrant, offload=offload)
    return Checkpointing(
        every=places.get("every", 1),
        chunk=places.get("chunk", 1),
        start=places.get("start", 0),
        blocks=blocks,
        reentrant=reentrant,
        offload=offload,
    )


def _blocks(value: Value) -> tuple[int, ...]:
    if isinstance(value.node, SequenceNode):
        return tuple(sorted({item.whole(0, DEEPEST) for item in value.items()}))
    return tuple(range(value.whole(0, DEEPEST)))


def spelled(value: Checkpointing) -> str | dict[str, Any]:
    """What ``read`` makes the same of."""
    flags = {name: True for name in _FLAGS if getattr(value, name)}
    if not value.partial and not flags:
        return value.name
    if value.every and value.blocks is not None:
        blocks = value.blocks
        prefix = blocks == tuple(range(len(blocks)))
        return {"blocks": len(blocks) if prefix else list(blocks), **flags}
    usual = Checkpointing(every=1)
    places = {name: getattr(value, name) for name in _PLACES if getattr(value, name) != getattr(usual, name)}
    return {**(places or {"every": value.every}), **flags}
