"""``memplan explain``: what is alive at the peak, down to tensors, and where every value comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass

from memplan.dialects.reading import Origin, Reading
from memplan.domain.estimate import Basis, Component, Estimate
from memplan.estimate.story import Story
from memplan.reporters import glossary
from memplan.reporters.blocks import Block, Bullets, Heading, Paragraph, Report, Table
from memplan.reporters.views import memory, peak
from memplan.reporters.words import NAMED, share, size, value

SMALL = 100
"""Components of less than one part in so many of the peak are told in a line each."""


def report(
    reading: Reading, estimate: Estimate, component: str | None = None, story: Story | None = None
) -> Report:
    """Everything known about the peak, or about one component of it with the arithmetic of its size.

    Without a story, what tensors wait for is left out.
    """
    if component is not None:
        chosen = next((part for part in estimate.shares if part.name == component), None)
        if chosen is None:
            return tuple(_machine(estimate, component))
        return tuple(_component(chosen, estimate, story, whole=True))
    return tuple(_everything(reading, estimate, story))


def _everything(reading: Reading, estimate: Estimate, story: Story | None) -> Iterator[Block]:
    device = estimate.device
    yield memory.headline(str(reading.path), estimate)
    yield peak.moment(estimate, story)
    ordered = sorted(estimate.shares, key=lambda part: -part.bytes)
    small = [part for part in ordered if story is not None and part.bytes * SMALL < device.peak_allocated]
    for part in ordered:
        if part not in small:
            yield from _component(part, estimate, story)
    if any(part.bytes for part in small):
        lines = tuple(f"{part.name}: {size(part.bytes)}" for part in small if part.bytes)
        yield Bullets(lines, "Less than 1 % of the peak each:")
    if not estimate.on_host:
        yield Bullets(
            (
                f"{size(device.peak_reserved - device.peak_allocated)}: {glossary.CACHED}",
                f"{size(device.context)}: {glossary.CONTEXT}",
            ),
            "Beyond tensors:",
        )
    yield from memory.phases(estimate)
    yield from _machine(estimate)
    yield Heading("Where the values come from")
    yield origins(reading)
    yield from memory.uncertainty(estimate)
    yield from memory.warnings(reading.warnings, estimate)


def _component(
    part: Component, estimate: Estimate, story: Story | None, *, whole: bool = False
) -> Iterator[Block]:
    total = estimate.host.peak if estimate.on_host else estimate.device.peak_allocated
    of_peak = share(part.bytes, total)
    yield Heading(f"{part.name}: {size(part.bytes)}, {of_peak} of the peak ({part.basis})")
    if part.basis is not Basis.DECLARED and (meaning := glossary.meaning(part.name)) is not None:
        yield Paragraph(meaning)
    held = story.of(part.name) if story else ()
    if held and whole:
        yield peak.arithmetic(held)
        yield peak.factors(estimate.workload)
    elif held:
        yield from peak.largest(held)
    elif part.parts:
        rows = tuple((item.tag, str(item.count), size(item.bytes)) for item in part.parts)
        yield Table(columns=("tensors", "count", "size"), align="<>>", rows=rows)
    yield from peak.freeing(part.name, estimate)


def _machine(estimate: Estimate, component: str | None = None) -> Iterator[Block]:
    """Host RAM at its peak, share by share, or one share of it, where it comes beside a GPU's."""
    host = estimate.host
    if host.phases and not estimate.on_host:
        lines = [
            f"{part.name}, {size(part.bytes)} ({part.basis}): {glossary.HOST[part.name]}"
            for part in host.components
            if part.bytes and component in (None, part.name)
        ]
        if host.mapped and component is None:
            lines.append(f"{size(host.mapped)} of files are mapped beside: {glossary.MAPPED}")
        yield Bullets(tuple(lines), f"Host RAM, {size(host.peak)} in phase {host.peak_phase}:")


def origins(reading: Reading) -> Table:
    """Every value that was read: what it is, and whether a file, a default or memplan said so."""
    rows = tuple((name, _value(reading, name), _source(origin)) for name, origin in reading.origins.items())
    return Table(columns=("value", "is", "from"), align="<<<", rows=rows)


def _value(reading: Reading, name: str) -> str:
    declared = dict(getattr(reading.workload.model, "values", ()))
    if name in declared:
        return value(declared[name])
    try:
        found = reading.workload.at(name)
    except AttributeError:
        return ""
    return "" if is_dataclass(found) and not isinstance(found, NAMED) else value(found)


def _source(origin: Origin) -> str:
    place = f"{origin.location.path}:{origin.location.line}" if origin.location else ""
    words = place if origin.how == "written" and place else " ".join(filter(None, (origin.how, place)))
    return f"{words} ({origin.note})" if origin.note else words
