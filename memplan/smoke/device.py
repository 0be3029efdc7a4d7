"""What every device does for a smoke test: say what it cannot run, predict, run, and say what it saw.

One process sees one device. With several ranks each process has a device and a share of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from memplan.domain.bytes import Bytes
from memplan.domain.measurement import Comparison
from memplan.domain.target import Target
from memplan.domain.workload import Workload

Advance = Callable[[], None]
"""To be called when one more step is done."""


def unseen() -> None:
    """For runs whose steps nobody counts."""


Done = Callable[[Any], None]
"""To be called with a loop that is through."""


def unheeded(_: Any) -> None:
    """For runs of which nothing is wanted but their memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a run is to be made.

    ``steps`` are optimizer steps or calls of ``generate``, ``budget`` the bytes that may be allocated if that
    is bounded. The process is ``rank`` of ``world``. ``done`` is told of the loop that is through, while its
    model and its optimizer are still there.
    """

    steps: int = 3
    budget: Bytes | None = None
    rank: int = 0
    world: int = 1
    advance: Advance = unseen
    done: Done = unheeded


class Device(Protocol):
    """A kind of device that runs workloads.

    ``compare`` raises InputError for what the device cannot run, and where the run would not fit the machine;
    a run that is out of memory within it is an answer (``Comparison.shortage``).
    """

    name: str

    def pieces(self, asked: Asked) -> int:
        """How often ``asked.advance`` will be called."""

    def compare(self, workload: Workload, target: Target | None, asked: Asked, /) -> Comparison:
        """Predict a workload for this device, run it, and put both side by side."""
