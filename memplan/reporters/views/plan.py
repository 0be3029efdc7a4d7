"""``memplan fit``: the smallest change that makes a run fit, before and after."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.reading import Reading
from memplan.domain.edit import Advice
from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.harm import Harm
from memplan.domain.plan import Alternative, Change, Plan
from memplan.domain.wording import listed
from memplan.reporters.blocks import Block, Bullets, Heading, Paragraph, Report, Table, Tone
from memplan.reporters.views import memory
from memplan.reporters.views.estimate import findings, lacking, renewed
from memplan.reporters.words import change, share, size, times, value

HARMS = {
    Harm.EXACT: "exact: the same mathematics",
    Harm.NUMERIC: "numeric: rounding differs",
    Harm.BEHAVIOUR: "behaviour: another experiment",
}


def report(reading: Reading, plan: Plan) -> Report:
    """What to change, what it does to memory, and what else would do."""
    return tuple(_blocks(reading, plan))


def _blocks(reading: Reading, plan: Plan) -> Iterator[Block]:
    yield _headline(reading, plan)
    if plan.changes:
        if not plan.feasible:
            yield Heading("The closest that is allowed")
        yield changes(plan.changes)
        yield comparison(plan.before, plan.after)
    yield Paragraph(_summary(plan, reading.tunable))
    if not plan.feasible:
        yield from _refusal(plan)
    yield from memory.uncertainty(plan.after)
    if plan.edits:
        lines = tuple(
            f"{edit.path}:{edit.line}: {edit.before or '(absent)'} → {edit.after}" for edit in plan.edits
        )
        title = "Edits that memplan apply will make:" if plan.feasible else "Its edits, which are not made:"
        yield Bullets(lines, title)
    if plan.by_hand:
        yield Bullets(advice(plan.by_hand), "To be changed by hand:", Tone.CAUTION)
    if plan.outside:
        yield Bullets(advice(plan.outside), "To be set where the run is started:", Tone.CAUTION)
    if plan.alternatives:
        yield Heading("Alternatives")
        yield alternatives(plan.alternatives, plan)
    yield from memory.warnings(reading.warnings, plan.after)
    if reading.findings:
        yield findings(reading)
    yield from lacking(reading, plan.after)
    yield from renewed(reading, plan.after)


def _headline(reading: Reading, plan: Plan) -> Heading:
    target = plan.after.target
    where = f"{reading.path} on {target.name}" if target else str(reading.path)
    if not plan.feasible:
        undecided = plan.after.verdict is Verdict.UNDECIDED
        return Heading(
            f"{where}: {'cannot be decided' if undecided else 'no allowed change makes it fit'}", Tone.BAD
        )
    if not plan.changes:
        return Heading(f"{where}: fits as it is, nothing to change", Tone.GOOD)
    profile = f" with profile {plan.profile}" if plan.profile else ""
    plural = "s" if len(plan.changes) > 1 else ""
    count = f"{len(plan.changes)} change{plural}{profile}"
    if plan.margin == 0 and plan.before.verdict is Verdict.FITS:
        # It had room enough: its own settings do not let it make memory anew again and again.
        return Heading(f"{where}: fits, and makes nothing anew after {count}", Tone.GOOD)
    return Heading(f"{where}: fits after {count}", Tone.GOOD)


def changes(made: tuple[Change, ...]) -> Table:
    """One row per changed field."""
    rows = tuple(
        (
            item.field,
            value(item.before),
            value(item.after),
            size(item.saves or 0),
            times(item.slowdown),
            item.harm.label,
            item.reason,
        )
        for item in made
    )
    return Table(
        columns=("change", "before", "after", "saves", "step time", "harm", "reason"),
        align="<>>>><<",
        rows=rows,
    )


def comparison(before: Estimate, after: Estimate) -> Table:
    """Component by component, then totals, each before and after."""
    names = [part.name for part in before.shares]
    names += [part.name for part in after.shares if part.name not in names]
    pairs = [(name, before.component(name), after.component(name)) for name in names]
    pairs = sorted((pair for pair in pairs if pair[1] or pair[2]), key=lambda pair: -pair[1])
    rows = [(name, size(old), size(new), change(old, new)) for name, old, new in pairs]
    totals = _totals(before, after)
    strong = frozenset({len(rows), len(rows) + len(totals) - 1})
    rows += [(name, size(left), size(right), change(left, right)) for name, left, right in totals]
    if before.target is not None and after.target is not None:
        rows.append(("headroom", _room(before), _room(after), ""))
        strong |= {len(rows) - 1}
    return Table(
        columns=("component", "before", "after", "change"), align="<>>>", rows=tuple(rows), strong=strong
    )


def _totals(before: Estimate, after: Estimate) -> list[tuple[str, int, int]]:
    """What the shares add up to, in the memory the run takes."""
    if before.on_host and after.on_host:
        disk = [("disk", before.disk, after.disk)] if before.disk or after.disk else []
        return [*disk, ("host RAM, whole process", before.host.peak, after.host.peak)]
    old, new = before.device, after.device
    return [
        ("allocated at the peak", old.peak_allocated, new.peak_allocated),
        ("reserved by PyTorch", old.peak_reserved, new.peak_reserved),
        ("CUDA context", old.context, new.context),
        ("GPU, whole process", old.process, new.process),
    ]


def alternatives(others: tuple[Alternative, ...], chosen: Plan) -> Table:
    """Other plans with their totals and what they trade; a column that says nothing new is left out."""
    columns = {
        "plan": ("<", [other.name for other in others]),
        "changes": ("<", [_settings(other) for other in others]),
        "total": (">", [size(other.after.needed) for other in others]),
        "headroom": (">", [_room(other.after) for other in others]),
        "step time": (">", [times(other.slowdown) for other in others]),
        "harm": ("<", [other.harm.label for other in others]),
        "verdict": ("<", ["fits" if other.feasible else "does not fit" for other in others]),
        "trade": ("<", [other.trade for other in others]),
    }
    expected = {"step time": times(chosen.slowdown), "harm": chosen.harm.label, "verdict": "fits"}
    kept = {name: column for name, column in columns.items() if {*column[1]} != {expected.get(name)}}
    return Table(
        columns=tuple(kept),
        align="".join(align for align, _ in kept.values()),
        rows=tuple(zip(*(cells for _, cells in kept.values()), strict=True)),
    )


def advice(given: tuple[Advice, ...]) -> tuple[str, ...]:
    """What the config's own file cannot express, with the place where known."""
    places = [f"{item.path}:{item.line}: " if item.path and item.line else "" for item in given]
    return tuple(f"{place}{item.field}: {item.message}" for place, item in zip(places, given, strict=True))


def _summary(plan: Plan, tunable: tuple[str, ...]) -> str:
    lines = []
    if plan.after.target is not None:
        lines.append(f"Headroom: {memory.headroom(plan.after)}.")
        if plan.margin:
            part = share(plan.margin, plan.after.target.limit)
            lines.append(f"Margin: {size(plan.margin)} ({part}) has to stay free.")
    if plan.changes:
        consented = all(item.field in tunable for item in plan.changes)
        lines.append(f"Harm: {HARMS[plan.harm]}{', in values declared tunable only' if consented else ''}.")
    if plan.requires:
        lines.append(f"Needs {listed(plan.requires)} where it runs.")
    if times(plan.slowdown) != times(1):
        lines.append(f"Modelled step time: {times(plan.slowdown)} of what it was.")
    return "\n".join(lines)


def _refusal(plan: Plan) -> Iterator[Block]:
    if plan.blocking:
        left = size(plan.after.component(plan.blocking))
        yield Paragraph(f"What blocks: {plan.blocking}, still {left}.", Tone.BAD)
    if plan.offer:
        yield Paragraph(f"Beyond what is allowed: {plan.offer}")


def _settings(other: Alternative) -> str:
    return ", ".join(f"{item.field} {value(item.after)}" for item in other.changes) or "nothing"


def _room(estimate: Estimate) -> str:
    return share(estimate.headroom, estimate.target.limit) if estimate.target else ""
