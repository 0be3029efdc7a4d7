"""The memory of one run as rows: the GPU's components, then host RAM and disk."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.domain.estimate import Component, Estimate, Gap, Verdict
from memplan.reporters.blocks import Bullets, Heading, Paragraph, Table, Tone
from memplan.reporters.words import VERDICTS, share, size

TONES = {
    Verdict.FITS: Tone.GOOD,
    Verdict.DOES_NOT_FIT: Tone.BAD,
    Verdict.UNDECIDED: Tone.CAUTION,
    None: Tone.PLAIN,
}


def headline(subject: str, estimate: Estimate) -> Heading:
    """One line: what, where, and whether it fits with how much to spare."""
    target, verdict = estimate.target, estimate.verdict
    total = size(estimate.needed)
    count = estimate.workload.world.data_parallel
    each = f" on each of {count} GPUs" if count > 1 else ""
    kind = "host memory" if estimate.on_host else "GPU memory"
    if target is None or verdict is None:
        return Heading(f"{subject} needs {total} of {kind}{each}")
    room = headroom(estimate)
    return Heading(f"{subject} on {target.name}: {VERDICTS[verdict]} ({total}{each}, {room})", TONES[verdict])


def headroom(estimate: Estimate) -> str:
    """What is left of the target's limit, or missing, with its share of the limit."""
    assert estimate.target is not None
    limit = estimate.target.limit
    word = "free" if estimate.headroom >= 0 else "missing"
    return f"{size(abs(estimate.headroom))} {word}, {share(abs(estimate.headroom), limit)} of {size(limit)}"


def breakdown(estimate: Estimate) -> Table:
    """Every share of GPU memory, host RAM and disk, largest first within its total."""
    rows = [] if estimate.on_host else _on_gpu(estimate)
    strong = {0, len(rows)}
    host = estimate.host
    when = f" ({host.peak_phase})" if host.phases else ""
    whole = host.peak if estimate.on_host else 0
    rows.append((f"host RAM{when}", size(host.peak), "100.0 %" if whole else "", ""))
    rows += [
        (name, amount, portion if whole else "", basis)
        for name, amount, portion, basis in _parts(host.components, whole, "  ")
    ]
    if host.mapped and estimate.on_host:
        rows.append(("files mapped beside (page cache)", size(host.mapped), "", ""))
    strong.add(len(rows))
    rows.append(("disk", size(estimate.disk), "", ""))
    rows += [(name, amount, "", basis) for name, amount, _, basis in _parts(estimate.disk_parts, 0, "  ")]
    return Table(
        columns=("memory", "size", "share", "basis"), align="<>><", rows=tuple(rows), strong=frozenset(strong)
    )


def _on_gpu(estimate: Estimate) -> list[tuple[str, str, str, str]]:
    """The rows of GPU memory."""
    device = estimate.device
    cached = device.peak_reserved - device.peak_allocated
    return [
        ("GPU, whole process", size(device.process), "100.0 %", ""),
        (
            f"  allocated at the peak ({device.peak_phase})",
            size(device.peak_allocated),
            share(device.peak_allocated, device.process),
            "",
        ),
        *_parts(device.components, device.process, indent="    "),
        ("  reserved, not allocated", size(cached), share(cached, device.process), "modelled"),
        ("  CUDA context", size(device.context), share(device.context, device.process), _context(estimate)),
    ]


def phases(estimate: Estimate) -> tuple[Table, ...]:
    """The peak of every phase, of the memory the run takes, if there are several."""
    if estimate.on_host:
        named, highest, what = estimate.host.phases, estimate.host.peak_phase, "peak of the process"
    else:
        named = tuple((str(phase), peak) for phase, peak in estimate.device.phases)
        highest, what = str(estimate.device.peak_phase), "peak allocated"
    rows = tuple((phase, size(peak)) for phase, peak in named)
    strong = frozenset(number for number, (phase, _) in enumerate(named) if phase == highest)
    return (Table(columns=("phase", what), align="<>", rows=rows, strong=strong),) if len(rows) > 1 else ()


def uncertainty(estimate: Estimate) -> tuple[Bullets, ...]:
    """What is not modelled or not measured, and the bounds that follow; nothing when all is certain."""
    if not estimate.device.gaps:
        return ()
    lines = tuple(f"{gap.reason}{_leeway(gap)}" for gap in estimate.device.gaps)
    low, high = size(estimate.device.low), size(estimate.device.high)
    unbounded = any(gap.unbounded for gap in estimate.device.gaps)
    needs = f"at least {low}" if unbounded else f"{low} to {high}"
    return (Bullets(lines, f"Uncertain; the whole process needs {needs}:", Tone.CAUTION),)


def warnings(said: Sequence[str], estimate: Estimate) -> tuple[Bullets, ...]:
    """What was noticed while reading the config, and on the machine where one was asked."""
    notes = estimate.target.notes if estimate.target else ()
    return (Bullets((*said, *notes), "Warnings:", Tone.CAUTION),) if said or notes else ()


def machine(estimate: Estimate) -> tuple[Paragraph, ...]:
    """Whether host RAM is enough, if it is known how much there is."""
    host, target = estimate.host, estimate.target
    if target is None or target.ram is None or not host.phases:
        return ()
    verdict = host.verdict(target.ram)
    needs = f"{size(host.peak)}, between {size(host.low)} and {size(host.high)}"
    text = f"Host RAM of {size(target.ram)}: {VERDICTS[verdict]} ({needs}; most in phase {host.peak_phase})."
    return (Paragraph(text, TONES[verdict]),)


def files(estimate: Estimate) -> tuple[Paragraph, ...]:
    """That the disk has not got what the run keeps there, if it is known what is free."""
    free = estimate.target.disk if estimate.target is not None else None
    if free is None or estimate.disk <= free:
        return ()
    text = f"Disk: the run keeps {size(estimate.disk)} of files, and {size(free)} are free here."
    return (Paragraph(text, Tone.CAUTION),)


def failure(estimate: Estimate) -> tuple[Paragraph, ...]:
    """What PyTorch would say, when and of which tensor, if the run dies on its target; else nothing."""
    found = estimate.device.failure
    if found is None:
        return ()
    text = f"As simulated it dies in {found.phase}, at {found.tensor}:\n{found.message}"
    return (Paragraph(text, Tone.BAD if estimate.verdict is Verdict.DOES_NOT_FIT else Tone.CAUTION),)


def _leeway(gap: Gap) -> str:
    less = f"up to {size(gap.low)} less" if gap.low else ""
    more = f"up to {size(gap.high)} more" if gap.high else ""
    if gap.unbounded:
        more = "nobody knows how much more"
    words = ", or ".join(filter(None, (less, more)))
    return f" ({words})" if words else ""


def _parts(components: tuple[Component, ...], whole: int, indent: str) -> list[tuple[str, str, str, str]]:
    ordered = sorted((part for part in components if part.bytes), key=lambda part: -part.bytes)
    return [
        (f"{indent}{part.name}", size(part.bytes), share(part.bytes, whole), str(part.basis))
        for part in ordered
    ]


def _context(estimate: Estimate) -> str:
    return estimate.target.context_basis if estimate.target else "assumed"
