"""``memplan check``: whether the gate passed, and every finding with its place and remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memplan.domain.finding import Finding, Level
from memplan.reporters.blocks import Block, Bullets, Heading, Report, Tone

_TONES = {Level.ERROR: Tone.BAD, Level.WARNING: Tone.CAUTION, Level.NOTE: Tone.PLAIN}


def report(passed: bool, findings: Sequence[Finding], checked: int) -> Report:
    """The outcome of ``checked`` configs first, then the findings in their order."""
    return tuple(_blocks(passed, findings, checked))


def _blocks(passed: bool, findings: Sequence[Finding], checked: int) -> Iterator[Block]:
    counts = [
        f"{number} {level}{'s' if number > 1 else ''}"
        for level in Level
        if (number := sum(finding.level is level for finding in findings))
    ]
    summary = ", ".join(counts) or "nothing found"
    configs = f"{checked} config{'' if checked == 1 else 's'} checked"
    yield Heading(
        f"{'passed' if passed else 'failed'}: {configs}, {summary}", Tone.GOOD if passed else Tone.BAD
    )
    for item in findings:
        yield told(item)


def told(finding: Finding) -> Bullets:
    """One finding: its place, what it is, and below it what to try."""
    title = f"{finding.path}:{finding.line}: {finding.level} {finding.code}: {finding.message}"
    return Bullets((f"try: {finding.fix}",) if finding.fix else (), title, _TONES[finding.level])
