"""The gate: configs against the GPUs they are meant for, as findings that point at lines.

======  =======  =====================================================================
MP001   error    a config does not fit its target
MP002   warning  a value differs between the places it is written in
MP003   warning  whether a config fits cannot be decided
MP004   error    a config cannot be read
MP005   error    the GPU does not have what a config asks for
MP006   error    the framework refuses to start with these files
MP007   warning  a model's files hold another number of weights than its config tells of
MP008   warning  sequences are longer than the model's context; an error where looking positions up fails
MP009   error    the real classes, traced on fake tensors, allocate otherwise than predicted
MP010   note     the real classes of a config cannot be traced
MP011   warning  a run makes anew for every token what one buffer would hold; an error where it refuses to
======  =======  =====================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memplan.check.baseline import known_findings
from memplan.check.proof import Prover, proven
from memplan.check.verdict import Estimator, Planner, judged
from memplan.domain.bytes import Bytes
from memplan.domain.errors import Location, MemplanError
from memplan.domain.finding import Finding, Level
from memplan.domain.margin import margin_bytes
from memplan.domain.target import Target
from memplan.estimate import estimate

if TYPE_CHECKING:
    from memplan.dialects.reading import Listed, Reading

__all__ = ["CheckReport", "check"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What the gate found; ``checked`` counts the configs looked at."""

    findings: tuple[Finding, ...]
    checked: int

    @property
    def passed(self) -> bool:
        """Whether no finding is an error."""
        return all(finding.level is not Level.ERROR for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 passed, 1 failed, 3 nothing failed but something cannot be decided."""
        if not self.passed:
            return 1
        return 3 if any(_is_open(finding) for finding in self.findings) else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One config to check, what a manifest that lists it says of its target, what replaces its values."""

    path: Path
    listed: Listed | None = None
    overrides: tuple[str, ...] = ()
    online: bool = False
    model: str | None = None
    beside: tuple[str | Path, ...] = ()
    ram: Bytes | None = None
    host: Target | None = None


def check(
    paths: Sequence[str | Path],
    *,
    target: Target | None = None,
    ram: Bytes | None = None,
    host: Target | None = None,
    margin: str | None = None,
    baseline: str | Path | None = None,
    planner: Planner | None = None,
    estimator: Estimator | None = None,
    overrides: Sequence[str] = (),
    online: bool = False,
    model: str | None = None,
    beside: Sequence[str | Path] = (),
    prover: Prover | None = None,
) -> CheckReport:
    """Check configs, manifests and folders that hold one.

    Args:
        paths: what to check; a manifest stands for its own model and every config it lists.
        target: where everything has to fit. Default: what each manifest entry or config names.
        ram: host memory there is, where ``target`` is not given. Default: likewise.
        host: where what takes no GPU has to fit, whatever ``target`` is. Default: in their host memory.
        margin: memory to keep free (``10%``, ``500MiB``). Default: as each entry or config says.
        baseline: a ``memplan.check/1`` report; what it holds is known and no longer fails the gate.
        planner: proposes the fix of a config that does not fit, as ``memplan.fit.fit`` does.
        estimator: what counts the bytes; ``memplan.estimate`` when not given.
        overrides: values that count instead of every config's own, as ``memplan.read.read`` takes them.
        online: whether the hub may be asked for models that this machine does not know.
        model, beside: what every config is read together with, as ``memplan.read.read`` takes them.
        prover: traces the real classes of every config, as ``memplan.smoke.fake`` does. Default: nobody.

    Raises:
        MemplanError: the baseline cannot be read, or the margin makes no sense for the target.
            Whatever is wrong with a config becomes a finding.
    """
    if target is not None and margin is not None:
        margin_bytes(margin, target)
    known = known_findings(Path(baseline)) if baseline is not None else None
    count = estimator or estimate
    findings: list[Finding] = []
    checked = 0
    for path in paths:
        for job in _jobs(Path(path), findings):
            checked += 1
            job = replace(
                job,
                overrides=tuple(overrides),
                online=online,
                model=model,
                beside=tuple(beside),
                ram=ram,
                host=host,
            )
            findings += _findings(job, target, margin, planner, count, prover)
    shown = findings if known is None else known.demoted(findings)
    return CheckReport(findings=tuple(shown), checked=checked)


def _jobs(path: Path, findings: list[Finding]) -> Iterator[_Job]:
    """The configs a path stands for; what cannot even be listed becomes a finding."""
    from memplan.read import listing

    try:
        listed, own = listing(path)
    except MemplanError as error:
        findings.append(_unreadable(error, path, None))
        return
    if own:
        yield _Job(path=path)
    for entry in listed:
        yield _Job(path=entry.path, listed=entry)


def _findings(
    job: _Job,
    target: Target | None,
    margin: str | None,
    planner: Planner | None,
    estimator: Estimator,
    prover: Prover | None,
) -> list[Finding]:
    from memplan.dialects import renewal
    from memplan.read import read

    try:
        reading = read(
            job.path, overrides=job.overrides, model=job.model, beside=job.beside, online=job.online
        )
        where = (job.host if reading.workload.on_host else None) or target or _target(reading, job)
        seen = [*renewal.findings(reading), *(() if prover is None else proven(reading, where, prover))]
        if where is None:
            return [*reading.findings, _no_target(reading), *seen]
        kept = margin_bytes(*_margin(reading, job.listed, margin, where))
        return [*reading.findings, *judged(reading, where, kept, planner, estimator), *seen]
    except MemplanError as error:
        return [_unreadable(error, job.path, job.listed.location if job.listed else None)]


def _target(reading: Reading, job: _Job) -> Target | None:
    from memplan import profiles

    listed = job.listed
    written = (listed.ram if listed is not None else None) or reading.ram
    memory = job.ram if job.ram is not None or written is None else Bytes.parse(written)
    if reading.workload.on_host:
        return None if memory is None else Target.of_host(memory)
    if listed is not None and listed.gpu is not None:
        return profiles.target(listed.gpu, ram=memory, location=listed.location)
    if reading.gpu is None:
        return None
    origin = reading.origins.get("target.gpu")
    return profiles.target(reading.gpu, ram=memory, location=origin.location if origin else None)


def _margin(
    reading: Reading, listed: Listed | None, given: str | None, target: Target
) -> tuple[str, Target, Location | None]:
    if given is not None:
        return given, target, None
    if listed is not None and listed.margin is not None:
        return listed.margin, target, listed.location
    return reading.margin or "0%", target, None


def _no_target(reading: Reading) -> Finding:
    on_host = reading.workload.on_host
    what, option, key = ("RAM", "--ram SIZE", "ram: SIZE") if on_host else ("GPU", "--gpu NAME", "gpu: NAME")
    return Finding(
        path=reading.document.source.path,
        line=1,
        code="MP003",
        level=Level.WARNING,
        message=f"no {what} is named for this config, so nothing can be said about fitting",
        fix=f"give {option}, or write target: {{{key}}} in the manifest",
    )


def _unreadable(error: MemplanError, path: Path, listed_at: Location | None) -> Finding:
    place = error.location or listed_at or Location(path=str(path), line=1)
    expected = f" (expected: {error.expected})" if error.expected else ""
    return Finding(
        path=place.path,
        line=place.line,
        code="MP004",
        level=Level.ERROR,
        message=f"{error.message}{expected}",
        fix=error.hint,
    )


def _is_open(finding: Finding) -> bool:
    return finding.code == "MP003" and finding.level is Level.WARNING
