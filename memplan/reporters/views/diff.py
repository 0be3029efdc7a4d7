"""``memplan diff``: two configs side by side, and what every setting does to memory."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import basename
from typing import Any

from memplan.dialects.schema import spelled
from memplan.diff import Diff, Share, Side
from memplan.diff.differences import Difference
from memplan.domain.architecture import Architecture
from memplan.domain.estimate import Estimate
from memplan.reporters.blocks import Block, Bullets, Heading, Paragraph, Report, Table, Tone
from memplan.reporters.views.memory import TONES
from memplan.reporters.words import VERDICTS, share, size, value

SAME = "="


def report(found: Diff) -> Report:
    """Headline, settings with their shares, components, and what reading found."""
    return tuple(_blocks(found))


def _blocks(found: Diff) -> Iterator[Block]:
    yield _headline(found)
    if found.shares:
        yield settings(found)
        if notes := tuple(_notes(found)):
            yield Bullets(notes, "In detail:")
        yield memory(found)
    else:
        yield Paragraph("No setting that decides memory differs.")
    yield from _verdicts(found)
    for side in (found.before, found.after):
        if side.reading.warnings:
            yield Bullets(side.reading.warnings, f"Warnings of {side.label}:", Tone.CAUTION)
    if len(found.shares) > 1:
        yield Paragraph("Settings change one after the other; what one does depends on those above it.")


def settings(found: Diff) -> Table:
    """One row per setting; its bytes on the GPU, in RAM and on disk sum to the totals."""
    rows: list[tuple[str, ...]] = []
    for part in found.shares:
        rows += _rows(found, part)
    whole = found.new.device.process - found.old.device.process
    host, disk = found.new.host.peak - found.old.host.peak, found.new.disk - found.old.disk
    rows.append(("all of them", "", "", signed(whole), signed(host), signed(disk), ""))
    return Table(
        columns=("setting", "before", "after", "GPU", "host RAM", "disk", "where"),
        align="<>>>>><",
        rows=tuple(rows),
        strong=frozenset({len(rows) - 1}),
    )


def memory(found: Diff) -> Table:
    """Component by component, then totals: before, after, and the difference in bytes."""
    old, new = found.old, found.new
    names = list(dict.fromkeys(part.name for side in (old, new) for part in side.shares))
    pairs = [(name, _component(old, name), _component(new, name)) for name in names]
    pairs = sorted((pair for pair in pairs if pair[1] or pair[2]), key=lambda pair: -max(pair[1:]))
    first = len(pairs)
    gpu = [
        ("allocated at the peak", old.device.peak_allocated, new.device.peak_allocated),
        ("reserved by PyTorch", old.device.peak_reserved, new.device.peak_reserved),
        ("CUDA context", old.device.context, new.device.context),
        ("GPU, whole process", old.device.process, new.device.process),
    ]
    gpu = [] if old.on_host and new.on_host else gpu
    pairs += gpu
    pairs += [("host RAM", old.host.peak, new.host.peak), ("disk", old.disk, new.disk)]
    rows = tuple((name, size(a), size(b), signed(b - a)) for name, a, b in pairs)
    strong = frozenset({first, *range(len(rows) - (3 if gpu else 2), len(rows))})
    return Table(columns=("memory", "before", "after", "change"), align="<>>>", rows=rows, strong=strong)


def signed(amount: int) -> str:
    """``+1.25 GiB``, ``-300 MiB``, or ``=``."""
    return SAME if not amount else f"{'+' if amount > 0 else ''}{size(amount)}"


def place(side: Side, field: str, *, whole: bool = True) -> str:
    """``runs/train.yml@HEAD~1:12``, or how the value is known where no line says it.

    Without ``whole`` folders are left out.
    """
    origins = side.reading.origins
    names = (field, spelled(field), field.rpartition(".")[0], field.partition(".")[0])
    origin = next((origins[name] for name in names if name in origins), None)
    if origin is None:
        return ""
    if origin.location is None:
        return origin.note or origin.how
    at = f"@{side.revision}" if side.revision else ""
    path = origin.location.path
    return f"{path if whole else basename(path)}{at}:{origin.location.line}"


def _rows(found: Diff, part: Share) -> Iterator[tuple[str, ...]]:
    amounts = (signed(part.process), signed(part.host), signed(part.disk))
    if not part.differences:
        yield (part.reason, "", "", *amounts, "")
    for number, difference in enumerate(part.differences):
        last = number == len(part.differences) - 1
        told = amounts if last else ("with the next", "", "")
        yield (spelled(difference.field), *_values(difference), *told, _places(found, difference))


def _values(difference: Difference) -> tuple[str, str]:
    return _told(difference.before), _told(difference.after)


def _told(found: Any) -> str:
    """A value in words; of a model its type and number of parameters: ``llama, 8.03 billion``."""
    if not isinstance(found, Architecture):
        return value(found)
    count = found.parameters
    return f"{found.model_type}, " + (
        f"{count / 10**9:.2f} billion" if count >= 10**9 else f"{count / 10**6:.3g} million"
    )


def _places(found: Diff, difference: Difference) -> str:
    both = [place(side, difference.field, whole=False) for side in (found.before, found.after)]
    return " → ".join(dict.fromkeys(filter(None, both)))


def _notes(found: Diff) -> Iterator[str]:
    for part in found.shares:
        for difference in part.differences:
            if difference.notes:
                yield f"{spelled(difference.field)}: {', '.join(difference.notes)}"


def _headline(found: Diff) -> Heading:
    old, new = found.old, found.new
    change = signed(new.needed - old.needed)
    words = f"{size(old.needed)} → {size(new.needed)} ({change})"
    target = f" on {new.target.name}" if new.target is not None else ""
    verdict = f", {VERDICTS[new.verdict]}" if new.verdict is not None else ""
    title = f"{found.before.label} → {found.after.label}{target}: {words}{verdict}"
    return Heading(title, TONES[new.verdict])


def _verdicts(found: Diff) -> Iterator[Block]:
    lines = [
        _judged(side.label, made) for side, made in ((found.before, found.old), (found.after, found.new))
    ]
    told = "\n".join(filter(None, lines))
    if told:
        yield Paragraph(told, TONES[found.new.verdict])


def _judged(label: str, made: Estimate) -> str:
    """``train.yml: fits rtx3090, 2.30 GiB free, 9.7 %``."""
    if made.target is None or made.verdict is None:
        return ""
    word = "free" if made.headroom >= 0 else "missing"
    room = f"{size(abs(made.headroom))} {word}, {share(abs(made.headroom), made.target.limit)}"
    return f"{label} on {made.target.name}: {VERDICTS[made.verdict]}, {room}"


def _component(made: Estimate, name: str) -> int:
    return next((part.bytes for part in made.shares if part.name == name), 0)
