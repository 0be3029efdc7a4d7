"""What can be changed about a run: one lever per module, listed here and nowhere else.

A lever has a name, a one-line summary, the worst harm of its options, and ``options(workload,
target)``: every setting it offers for this workload, apart from leaving it alone, from the one that
saves least GPU memory to the leanest. Two levers never change the same field, so that any choice of one
option per lever can be combined; what makes no sense together is left out by ``compatible``.
"""

from __future__ import annotations

from typing import Protocol

from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.levers import (
    activation_offload,
    adapter,
    allocator,
    attention,
    checkpointing,
    evaluation,
    gradients,
    host_offload,
    kv_cache,
    loss,
    micro_batch,
    optimizer,
    prompt_logits,
    sequence,
    set_to_none,
    sharding,
    workers,
)


class Lever(Protocol):
    """What a module of this folder offers."""

    NAME: str
    SUMMARY: str
    HARM: Harm

    def options(self, workload: Workload, target: Target | None, /) -> tuple[Option, ...]:
        """Settings this lever can give the workload on this target; empty when it does not apply."""


LEVERS: tuple[Lever, ...] = (
    loss,
    optimizer,
    activation_offload,
    sharding,
    host_offload,
    attention,
    checkpointing,
    adapter,
    sequence,
    micro_batch,
    set_to_none,
    gradients,
    prompt_logits,
    kv_cache,
    evaluation,
    workers,
    allocator,
)
"""In the order in which a plan lists them."""

UNRANKED = ("adapter", "loss", "attention", "activation_offload", "sharding", "host_offload")
"""Levers of which no option is the leanest, to within 16 MiB, and the fastest whatever the others do."""
