"""``memplan estimate``: where every byte goes, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects import hardware, renewal
from memplan.dialects.reading import Reading
from memplan.domain.estimate import Estimate
from memplan.reporters.blocks import Block, Bullets, Paragraph, Report, Tone
from memplan.reporters.views import memory


def report(reading: Reading, estimate: Estimate) -> Report:
    """Headline, breakdown, phases, what is uncertain, and warnings."""
    return tuple(_blocks(reading, estimate))


def _blocks(reading: Reading, estimate: Estimate) -> Iterator[Block]:
    yield memory.headline(str(reading.path), estimate)
    yield memory.breakdown(estimate)
    yield from memory.phases(estimate)
    yield from memory.machine(estimate)
    yield from memory.files(estimate)
    yield from memory.failure(estimate)
    yield from memory.uncertainty(estimate)
    yield from memory.warnings(reading.warnings, estimate)
    if reading.findings:
        yield findings(reading)
    yield from lacking(reading, estimate)
    yield from renewed(reading, estimate)
    if estimate.target is None:
        option = "--ram" if estimate.on_host else "--gpu"
        yield Paragraph(f"No target: name one with {option} to learn whether it fits.")


def findings(reading: Reading) -> Bullets:
    """What reading found wrong, each with its place."""
    lines = tuple(f"{item.path}:{item.line}: {item.message}" for item in reading.findings)
    return Bullets(lines, "Found while reading:", Tone.CAUTION)


def lacking(reading: Reading, estimate: Estimate) -> Iterator[Bullets]:
    """What the GPU has not got of what the run asks for, each with its place and a way out."""
    found = hardware.findings(reading, estimate.target, estimate.workload)
    if found and estimate.target is not None:
        lines = tuple(f"{item.path}:{item.line}: {item.message}; {item.fix}" for item in found)
        yield Bullets(lines, f"{estimate.target.name} cannot do all of it:", Tone.BAD)


def renewed(reading: Reading, estimate: Estimate) -> Iterator[Bullets]:
    """What the run makes anew though one buffer would hold it, with its place and a way out."""
    found = renewal.findings(reading, estimate.workload)
    if found:
        lines = tuple(f"{item.path}:{item.line}: {item.message}; {item.fix}" for item in found)
        yield Bullets(lines, "Made anew:", Tone.CAUTION)
