"""The most that tensors of a process take at once during a step on a CPU, as PyTorch's profiler sees it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

EXCHANGE = ("c10d::", "gloo:")
"""Ranges within which the library that exchanges tensors allocates for itself: gloo copies what it sends and
receives (ProcessGroupGloo.cpp), NCCL does not."""


class Peak:
    """``bytes`` is known when the block of ``watching`` is over."""

    def __init__(self) -> None:
        self.bytes = 0

    @contextmanager
    def watching(self, held: int) -> Iterator[None]:
        """Watch a step that begins with ``held`` bytes."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        with warnings.catch_warnings():
            # What the profiler says of clocks and of steps it was not told of.
            warnings.simplefilter("ignore")
            profile = torch.profiler.profile(activities=activities, profile_memory=True)
            with profile:
                yield
        self.bytes = _highest(held, profile.profiler.kineto_results)


def _highest(held: int, results: Any) -> int:
    used = highest = held
    others: set[int] = set()
    for _, _, address, size, own in sorted(_events(results)):
        if size < 0 and address in others:
            others.discard(address)
        elif not own and size > 0:
            others.add(address)
        else:
            # Whatever was there before is gone, though not every thread of the library says so.
            others.discard(address)
            used += size
            highest = max(highest, used)
    return highest


def _events(results: Any) -> Iterator[tuple[int, int, int, int, bool]]:
    """When, in which order, at which address and of how many bytes; whether it is the run's own."""
    stack = [(event, True) for event in reversed(results.experimental_event_tree())]
    order = 0
    while stack:
        event, own = stack.pop()
        order += 1
        own = own and not event.name.startswith(EXCHANGE)
        if type(event.extra_fields).__name__ == "_ExtraFields_Allocation":
            found = event.extra_fields
            yield event.start_time_ns, order, found.ptr, found.alloc_size, own
        stack += [(child, own) for child in reversed(event.children)]
