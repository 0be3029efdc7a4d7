"""PyTorch's allocator told to map memory as it is needed, so that little is cached that fits nobody.

No training file says so; it is an environment variable, which a plan names as advice.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Workload

NAME = "allocator"
SUMMARY = "expandable segments (an environment variable of PyTorch)"
HARM = Harm.EXACT

_SINCE = (2, 1)
"""The release of PyTorch that has expandable segments."""


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """Expandable segments, beside whatever else the allocator was told."""
    if not isinstance(workload.model, Architecture) or workload.framework.torch_before(*_SINCE):
        return ()
    if workload.allocator.expandable_segments:
        return ()
    return (
        Option(
            changes={"allocator.expandable_segments": True},
            harm=HARM,
            reason="freed memory can be mapped anew, so less of it lies idle between tensors",
        ),
    )
