"""Activation checkpointing: keep a block's input, compute the rest again when backward needs it.

Offered are a quarter and half of the blocks in turns, which some frameworks have a word for; the blocks that
free most bytes per operation, three quarters of them; and all. Blocks that free as much go
in the order of the model: backward has freed all others before it runs them again.

All blocks are the leanest, with one exception. Of L blocks in chunks of k only every k-th input stays, and k
blocks are recomputed at a time: with inputs of i bytes and blocks that keep b, (L / k)·i + k·b bytes, least
where k is the root of L·i / b. The rule of √L (Chen et al., arXiv:1604.06174) has i and b alike. A decoder
block keeps 24 to 100 times its input, so that chunks of two are leaner from some 50 blocks on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from math import isqrt

from memplan.domain.architecture import Architecture
from memplan.domain.checkpointing import Checkpointing
from memplan.domain.errors import MemplanError
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import ASSUMED_CAPABILITY, Target
from memplan.domain.workload import Task, Workload
from memplan.levers.cost.blocks import Block, blocks

NAME = "checkpointing"
SUMMARY = "recompute activations in backward instead of keeping them"
HARM = Harm.EXACT

STRIDES = (4, 2)
MANY = (3, 4)
"""The share of blocks that are chosen one by one. More shares would come closer to what is needed; each costs
the search as many estimates as all that is decided besides."""

KEPT_AT_LEAST = 2
"""Recomputing the last block right away saves nothing. Where two are kept, recomputing all allocates less."""


def options(workload: Workload, target: Target | None, /) -> tuple[Option, ...]:
    """Settings that keep fewer activations than now, from few blocks to all; chunks last, if leaner."""
    shape = workload.model
    if not isinstance(shape, Architecture) or workload.task is not Task.TRAIN:
        return ()
    now, depth = workload.checkpointing, shape.depth
    found = _measured(workload, shape, target)
    if found and all(block.kept <= block.input for block in found):
        return ()
    offered = dict.fromkeys(_offered(workload, shape, found))
    wanted = [setting for setting in offered if _fewer(setting, now, depth, found)]
    return tuple(
        Option(changes={"checkpointing": setting}, harm=HARM, reason=_reason(setting, depth))
        for setting in wanted
    )


def _measured(workload: Workload, shape: Architecture, target: Target | None) -> tuple[Block, ...]:
    """What each block keeps; nothing where the model has two stacks, or is not simulated."""
    if shape.depth != shape.num_hidden_layers:
        return ()
    with suppress(MemplanError):
        return blocks(workload, shape, target.compute_capability if target else ASSUMED_CAPABILITY)
    return ()


def _offered(workload: Workload, shape: Architecture, found: tuple[Block, ...]) -> Iterator[Checkpointing]:
    """Every setting there is for a model, whatever it does now."""
    now, depth = workload.checkpointing, shape.depth
    full = Checkpointing(every=1, offload=now.offload)
    last = workload.framework.code == "torchtune" or (now.every > 1 and now.start == now.every - 1)
    ranked = _ranked(found) or range(depth)
    many = depth * MANY[0] // MANY[1]
    for every in STRIDES:
        yield replace(full, every=every, start=every - 1 if last else 0)
    yield replace(full, blocks=tuple(sorted(ranked[:many])))
    yield full
    chunk = 1 if now.offload else _chunk(found)
    if chunk > 1:
        yield replace(full, chunk=chunk)


def _ranked(found: tuple[Block, ...]) -> list[int]:
    """Blocks by the bytes they free per operation, most first."""
    return sorted(range(len(found)), key=lambda depth: (-found[depth].worth, depth))


def _chunk(found: tuple[Block, ...]) -> int:
    """How many blocks at a time allocate least."""
    kept = max((block.kept for block in found), default=0)
    root = isqrt(sum(block.input for block in found) // kept) if kept else 1
    return min((max(1, root), root + 1), key=lambda chunk: _chunked(chunk, found))


def _chunked(chunk: int, found: tuple[Block, ...]) -> int:
    """Bytes of the inputs of all chunks, and of the blocks of the largest."""
    regions = [found[start : start + chunk] for start in range(0, len(found), chunk)]
    inputs = sum(region[0].input for region in regions)
    return inputs + max((sum(block.kept for block in region) for region in regions), default=0)


def _fewer(setting: Checkpointing, now: Checkpointing, depth: int, found: tuple[Block, ...]) -> bool:
    """Whether a setting keeps fewer activations than another."""
    if setting.chunk > 1 or (now.chunk > 1 and setting.full):
        return _chunked(setting.chunk, found) < _chunked(now.chunk if now.every else 1, found)
    again, before = setting.recomputed(depth), now.recomputed(depth)
    if setting.full:
        return again > before
    return before < again <= depth - KEPT_AT_LEAST


def _reason(setting: Checkpointing, depth: int) -> str:
    """Which blocks do what."""
    if setting.chunk > 1:
        return f"{setting.chunk} blocks at a time keep one input and run their forward passes again"
    if setting.blocks is not None:
        number = len(setting.blocks)
        return f"{number} of {depth} blocks keep only their input and run their forward pass again"
    which = "every block" if setting.every == 1 else f"every {setting.every}{_ORDINALS[setting.every]} block"
    return f"{which} keeps only its input and runs its forward pass again"


_ORDINALS = {2: "nd", 4: "th"}
