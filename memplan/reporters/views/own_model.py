"""``memplan smoke --model FILE.py:NAME``: what a user's own model takes, as a report and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memplan.domain.own_model import OwnModel
from memplan.reporters.blocks import Block, Heading, Report, Table
from memplan.reporters.json import value
from memplan.reporters.views.check import told
from memplan.reporters.words import size


def report(source: str, device: str, found: OwnModel) -> Report:
    """Headline, what stays, and the peak of each phase."""
    return tuple(_blocks(source, device, found))


def _blocks(source: str, device: str, found: OwnModel) -> Iterator[Block]:
    yield Heading(f"{source}: {found.count:,} parameters, {size(found.peak)} at most ({device})")
    stays = ("parameters", "buffers", "gradients", "saved")
    names = {"saved": "saved for backward"}
    rows = tuple((names.get(name, name), size(getattr(found, name))) for name in stays)
    yield Table(columns=("what", "bytes"), align="<>", rows=rows)
    made = {item.phase: (item.count, item.bytes) for item in found.allocations}
    phases = ((phase, peak, *made.get(phase, (0, 0))) for phase, peak in found.phases)
    yield Table(
        columns=("phase", "peak", "allocations", "in all"),
        align="<>>>",
        rows=tuple(
            (str(phase), size(peak), f"{count:,}", size(total)) for phase, peak, count, total in phases
        ),
    )
    yield from map(told, found.findings)


def payload(source: str, device: str, found: OwnModel) -> dict[str, Any]:
    """``memplan.model/1``: bytes."""
    return {
        "schema": "memplan.model/1",
        "source": source,
        "device": device,
        "count": found.count,
        "parameters": int(found.parameters),
        "buffers": int(found.buffers),
        "gradients": int(found.gradients),
        "saved": int(found.saved),
        "peak_allocated": int(found.peak),
        "phases": {str(phase): int(peak) for phase, peak in found.phases},
        "allocations": {
            str(item.phase): {"count": item.count, "bytes": int(item.bytes)} for item in found.allocations
        },
        "findings": value(found.findings),
    }
