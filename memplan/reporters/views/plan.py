"""``memplan fit``: the smallest change that makes a run fit, before and after."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects.reading import Reading
from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.plan import Alternative, Change, Harm, Plan
from memplan.reporters.blocks import Block, Bullets, Heading, Paragraph, Report, Table, Tone
from memplan.reporters.views import memory
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
        yield changes(plan.changes, reading.tunable)
        yield comparison(plan.before, plan.after)
    yield Paragraph(_summary(plan))
    if not plan.feasible:
        yield from _refusal(plan)
    if unmodelled := tuple(memory.gaps(plan.after)):
        yield Bullets(unmodelled, f"Not modelled; the total lies {memory.bounds(plan.after)}:", Tone.CAUTION)
    if plan.edits:
        lines = tuple(
            f"{edit.path}:{edit.line}: {edit.before or '(absent)'} → {edit.after}" for edit in plan.edits
        )
        yield Bullets(lines, "Edits that memplan apply will make:")
    if plan.advice:
        yield Bullets(advice(plan), "To be changed by hand:", Tone.CAUTION)
    if plan.alternatives:
        yield Heading("Alternatives")
        yield alternatives(plan.alternatives)
    if reading.warnings:
        yield Bullets(reading.warnings, "Warnings:", Tone.CAUTION)


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
    return Heading(f"{where}: fits after {len(plan.changes)} change{plural}{profile}", Tone.GOOD)


def changes(made: tuple[Change, ...], tunable: tuple[str, ...] = ()) -> Table:
    """One row per changed field; a field the user declared tunable says so instead of its harm."""
    rows = tuple(
        (
            item.field,
            value(item.before),
            value(item.after),
            size(item.saves),
            "declared tunable" if item.field in tunable else item.harm.label,
            item.reason,
        )
        for item in made
    )
    return Table(columns=("change", "before", "after", "saves", "harm", "reason"), align="<>>><<", rows=rows)


def comparison(before: Estimate, after: Estimate) -> Table:
    """Component by component, then totals, each before and after."""
    names = [part.name for part in before.device.components]
    names += [part.name for part in after.device.components if part.name not in names]
    pairs = [(name, before.component(name), after.component(name)) for name in names]
    pairs = sorted((pair for pair in pairs if pair[1] or pair[2]), key=lambda pair: -pair[1])
    rows = [(name, size(old), size(new), change(old, new)) for name, old, new in pairs]
    strong = frozenset({len(rows), len(rows) + 3})
    old, new = before.device, after.device
    for name, left, right in (
        ("allocated at the peak", old.peak_allocated, new.peak_allocated),
        ("reserved by PyTorch", old.peak_reserved, new.peak_reserved),
        ("CUDA context", old.context, new.context),
        ("GPU, whole process", old.process, new.process),
    ):
        rows.append((name, size(left), size(right), change(left, right)))
    if before.target is not None and after.target is not None:
        rows.append(("headroom", _room(before), _room(after), ""))
        strong |= {len(rows) - 1}
    return Table(
        columns=("component", "before", "after", "change"), align="<>>>", rows=tuple(rows), strong=strong
    )


def alternatives(others: tuple[Alternative, ...]) -> Table:
    """Other plans with their totals and what they trade."""
    rows = tuple(
        (
            other.name,
            ", ".join(f"{item.field} {value(item.after)}" for item in other.changes) or "nothing",
            size(other.after.device.process),
            _room(other.after) if other.after.target else "",
            times(other.slowdown),
            other.harm.label,
            "fits" if other.feasible else "does not fit",
            other.trade,
        )
        for other in others
    )
    columns = ("plan", "changes", "total", "headroom", "step time", "harm", "verdict", "trade")
    return Table(columns=columns, align="<<>>><<<", rows=rows)


def advice(plan: Plan) -> tuple[str, ...]:
    """What the config's own file cannot express, with the place where known."""
    places = [f"{item.path}:{item.line}: " if item.path and item.line else "" for item in plan.advice]
    return tuple(
        f"{place}{item.field}: {item.message}" for place, item in zip(places, plan.advice, strict=True)
    )


def _summary(plan: Plan) -> str:
    lines = []
    if plan.after.target is not None:
        limit = plan.after.target.limit
        lines.append(f"Headroom: {memory.headroom(plan.after)}.")
        if plan.margin:
            lines.append(f"Margin asked for: {size(plan.margin)}, {share(plan.margin, limit)}.")
    if plan.changes:
        lines.append(f"Harm: {HARMS[plan.harm]}. Modelled step time: {times(plan.slowdown)}.")
    return "\n".join(lines)


def _refusal(plan: Plan) -> Iterator[Block]:
    if plan.blocking:
        yield Paragraph(f"What blocks: {plan.blocking}.", Tone.BAD)
    if plan.offer:
        yield Paragraph(f"Beyond what is allowed: {plan.offer}")


def _room(estimate: Estimate) -> str:
    assert estimate.target is not None
    return share(estimate.headroom, estimate.target.limit)
