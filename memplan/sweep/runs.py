"""Runs beside the estimates of a sweep: what makes them, and which of their components are looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from memplan.domain.bytes import Bytes
from memplan.domain.errors import UnknownNameError
from memplan.domain.measurement import Comparison, Measurement
from memplan.domain.workload import Workload
from memplan.sweep.grid import Ran, Sweep

_WORDS = {"fake": "tensors without bytes"}

Measure = Callable[[Workload], Comparison]
"""Runs a workload, and puts what was predicted and what was seen side by side."""


def amounts(sweep: Sweep, found: Comparison) -> tuple[Bytes, Bytes]:
    """What was predicted and what was seen: all at the peak, or the components shown."""
    return _amount(sweep, found.predicted), _amount(sweep, found.measured)


def about(sweep: Sweep) -> str:
    """What these amounts are of: ``allocated at the peak``, ``states + momentum at the peak``."""
    return f"{' + '.join(sweep.shown) or 'allocated'} at the peak"


def devices(sweep: Sweep) -> str:
    """What the runs were made on, in words."""
    names = dict.fromkeys(run.found.device for run in sweep.runs if run.found is not None)
    return ", ".join(_WORDS.get(name, name) for name in names)


def known(runs: Iterable[Ran], shown: Sequence[str]) -> tuple[str, ...]:
    """The components to be shown, once it is known that runs have them.

    Raises:
        UnknownNameError: no run has one of them.
    """
    found = [run.found for run in runs if run.found is not None]
    names = {name for run in found for side in (run.predicted, run.measured) for name, _ in side.components}
    for name in shown:
        if found and name not in names:
            there = ", ".join(sorted(names))
            raise UnknownNameError.nearest("component", name, sorted(names), hint=f"one of {there}")
    return tuple(shown)


def _amount(sweep: Sweep, found: Measurement) -> Bytes:
    if not sweep.shown:
        return found.peak_allocated
    return Bytes(sum(size for name, size in found.components if name in sweep.shown))
