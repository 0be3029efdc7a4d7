"""The devices that workloads are really run on, by the names people give them."""

from __future__ import annotations

from memplan.smoke.cpu import Cpu
from memplan.smoke.device import Device

AUTO = "auto"


def named(name: str, *, scaled: bool = False) -> Device:
    """A device by its name; ``auto`` is the best there is.

    Raises:
        KeyError: there is none of that name.
    """
    return {AUTO: Cpu, "cpu": Cpu}[name](scaled=scaled)
