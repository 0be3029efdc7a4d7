"""Two configs, or two revisions of one: which settings differ, and what each does to memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from memplan.diff.differences import Difference, changed, differences
from memplan.diff.revision import laid_out, split, untracked
from memplan.domain.errors import MemplanError
from memplan.domain.estimate import Estimate
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.estimate import estimate

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

__all__ = ["Diff", "Share", "Side", "compare", "side"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A config as given (``train.yml@HEAD~1``), its revision if it has one, and what it says."""

    label: str
    reading: Reading
    revision: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What differences do together to a process on the GPU, its allocated peak, host RAM and disk, in bytes.

    There are several where those before the last cannot be without it, and none for what is left: another
    GPU, or what is not modelled.
    """

    differences: tuple[Difference, ...]
    process: int
    allocated: int
    host: int
    disk: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """Both sides with their estimates, and the shares of the difference, which sum to it."""

    before: Side
    after: Side
    old: Estimate
    new: Estimate
    shares: tuple[Share, ...]

    @property
    def grows(self) -> bool:
        """Whether the process needs more on the GPU than before."""
        return self.new.needed > self.old.needed


def side(text: str, read: Callable[[str], Reading]) -> Side:
    """The config that ``PATH`` or ``PATH@REVISION`` means.

    Args:
        text: what was given.
        read: reads a path; within it the working folder is the revision's.

    Raises:
        MemplanError: it cannot be read, or there is no such revision.
    """
    path, revision = split(text)
    if revision is None:
        return Side(label=text, reading=read(path))
    with laid_out(path, revision) as there:
        reading = read(there)
        loose = untracked(list(reading.sources))
    if loose:
        warning = f"not in git, so as it is now: {', '.join(loose)}"
        reading = replace(reading, warnings=(*reading.warnings, warning))
    return Side(label=text, reading=reading, revision=revision)


def compare(before: Side, after: Side, targets: tuple[Target | None, Target | None]) -> Diff:
    """What differs, and how many bytes of the difference each setting has.

    Settings change one after the other, the model first, so that shares sum to the whole; what a setting does
    depends on those before it.

    Raises:
        FieldError: one of the two has no model at all.
    """
    first, second = targets
    old, new = before.reading.workload, after.reading.workload
    ends = estimate(old, first), estimate(new, second)
    shares: list[Share] = []
    start = ends[0]
    if first != second:
        start = estimate(old, second)
        shares.append(_share((), ends[0], start, "another GPU"))
    shares += _shares(old, differences(old, new), start, ends[1], second)
    return Diff(before=before, after=after, old=ends[0], new=ends[1], shares=tuple(shares))


def _shares(
    workload: Workload,
    found: Sequence[Difference],
    start: Estimate,
    end: Estimate,
    target: Target | None,
) -> list[Share]:
    """One change after the other; where a workload in between cannot be, the next is made with it."""
    shares: list[Share] = []
    waiting: list[Difference] = []
    for difference in found:
        waiting.append(difference)
        workload = changed(workload, difference)
        try:
            now = estimate(workload, target)
        except MemplanError:
            continue
        shares.append(_share(waiting, start, now))
        start, waiting = now, []
    last = _share(waiting, start, end, "" if waiting else "what is not modelled")
    left = any((last.process, last.allocated, last.host, last.disk))
    return [*shares, last] if waiting or left else shares


def _share(found: Sequence[Difference], old: Estimate, new: Estimate, reason: str = "") -> Share:
    return Share(
        differences=tuple(found),
        process=new.device.process - old.device.process,
        allocated=new.device.peak_allocated - old.device.peak_allocated,
        host=new.host.peak - old.host.peak,
        disk=new.disk - old.disk,
        reason=reason,
    )
