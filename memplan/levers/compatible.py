"""Settings that make no sense together, which no plan may combine."""

from __future__ import annotations

from collections.abc import Callable

from memplan.domain.workload import Workload

RULES: tuple[Callable[[Workload], bool], ...] = ()
"""Each says whether a workload is a sensible one as far as it looks at it."""


def compatible(workload: Workload) -> bool:
    """Whether every rule accepts a workload."""
    return all(rule(workload) for rule in RULES)
