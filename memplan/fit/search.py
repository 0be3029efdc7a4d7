"""Exact search over every combination of the levers' options.

Candidates are ordered by harm and how far it goes, modelled slowdown, number of changes; the first that
fits wins, and among equals the one with most headroom. Estimates are the expensive part (tens of
milliseconds for a large model), so candidates are skipped where a smaller one already proves that they
cannot fit. Only one law is used for that: *allocated memory never falls when the micro-batch or the sequence
grows and nothing else changes*. It does not hold for reserved memory, which depends on how blocks
happen to fit, nor across the step from one to several accumulated passes, which keeps gradients
alive in the next forward pass. So a candidate is skipped only when the allocated peak and context of
a smaller one with the same habits exceed the limit; a floor under its allocations does too, and is quicker.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, product

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.fit.policy import Estimator, Floor, Policy
from memplan.levers import LEVERS
from memplan.levers.cost import slowdown

_RESOLUTION = 3
"""Decimals of a slowdown that count: the cost model is no finer than a thousandth."""


Habits = tuple[Workload, bool]
"""What must agree for two candidates to be ordered by micro-batch and sequence alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One option or none per lever, and the workload they give.

    ``choice`` has one number per lever of ``LEVERS``: 0 leaves it alone, n takes its n-th option.
    ``price`` is what is minimised before headroom: harm, its degree, slowdown, number of changed fields.
    """

    choice: tuple[int, ...]
    options: tuple[Option, ...]
    workload: Workload
    slowdown: float
    price: tuple[Harm, int, float, int]
    habits: Habits

    @property
    def harm(self) -> Harm:
        """The worst harm of its options."""
        return self.price[0]

    @property
    def levers(self) -> tuple[str, ...]:
        """Names of the levers it pulls."""
        return tuple(lever.NAME for lever, taken in zip(LEVERS, self.choice, strict=True) if taken)

    @property
    def extent(self) -> tuple[int, int]:
        """Sequence length and micro-batch."""
        return self.workload.sequence.length, self.workload.batch.micro


def candidates(workload: Workload, policy: Policy) -> list[Candidate]:
    """Every permitted combination, the empty one included, cheapest first."""
    settings = [
        [(0, None), *((n, option) for n, option in enumerate(offered, 1) if policy.permits(option))]
        for offered in (map(policy.labelled, lever.options(workload, policy.target)) for lever in LEVERS)
    ]
    found = [_candidate(workload, combination, policy.target) for combination in product(*settings)]
    return sorted(found, key=lambda candidate: (candidate.price, candidate.choice))


def _candidate(
    workload: Workload, combination: tuple[tuple[int, Option | None], ...], target: Target
) -> Candidate:
    options = tuple(option for _, option in combination if option is not None)
    after = applied(workload, options)
    price = slowdown(workload, after, target)
    level = after.changed("batch.micro", 1).changed("batch.accumulation", 1).changed("sequence.length", 1)
    return Candidate(
        choice=tuple(number for number, _ in combination),
        options=options,
        workload=after,
        slowdown=price,
        price=(
            max((option.harm for option in options), default=Harm.EXACT),
            sum(option.degree for option in options),
            round(price, _RESOLUTION),
            sum(len(option.changes) for option in options),
        ),
        habits=(level, after.batch.accumulation > 1),
    )


def applied(workload: Workload, options: Iterable[Option]) -> Workload:
    """The workload with all changes of the options."""
    for option in options:
        for field, value in option.changes.items():
            workload = workload.changed(field, value)
    return workload


class Search:
    """One search; remembers every estimate it made."""

    def __init__(
        self,
        workload: Workload,
        policy: Policy,
        estimator: Estimator,
        estimates: dict[Workload, Estimate] | None = None,
        floor: Floor | None = None,
    ) -> None:
        self.workload = workload
        self.policy = policy
        self.candidates = candidates(workload, policy)
        self._estimator = estimator
        self._estimates = {} if estimates is None else estimates
        self._floor = floor
        self._families: dict[Habits, list[Candidate]] = {}
        for candidate in self.candidates:
            self._families.setdefault(candidate.habits, []).append(candidate)
        self._micro_limits: dict[tuple[Habits, int], int] = {}

    def under(self, policy: Policy) -> Search:
        """A search of the same workload under another policy that shares the estimates made so far."""
        return Search(self.workload, policy, self._estimator, self._estimates, self._floor)

    def measure(self, workload: Workload) -> Estimate:
        """The estimate of a workload, made once."""
        if workload not in self._estimates:
            self._estimates[workload] = self._estimator(workload, self.policy.target)
        return self._estimates[workload]

    def best(self) -> Candidate | None:
        """The cheapest candidate that fits with the margin; None when none does."""
        for _, equals in groupby(self.candidates, key=lambda candidate: candidate.price):
            fitting = [candidate for candidate in equals if self.fits(candidate)]
            if fitting:
                return min(fitting, key=lambda candidate: (self.high(candidate), candidate.choice))
        return None

    def fits(self, candidate: Candidate) -> bool:
        """Whether a candidate fits with the margin; estimated only if nothing smaller rules it out."""
        if candidate.workload not in self._estimates and self._ruled_out(candidate):
            return False
        return self.policy.accepts(self.measure(candidate.workload))

    def high(self, candidate: Candidate) -> Bytes:
        """The upper bound of the process's memory."""
        return self.measure(candidate.workload).device.high

    def least(self) -> Candidate:
        """The candidate with the least memory, without changes that save nothing."""
        lowest = min(
            self.corners(), key=lambda candidate: (self.high(candidate), candidate.price, candidate.choice)
        )
        return self._plainest(lowest)

    def corners(self) -> list[Candidate]:
        """The smallest micro-batch and sequence of every family, and the unchanged workload."""
        smallest = {min(family, key=_extent).choice for family in self._families.values()}
        return [entry for entry in self.candidates if not entry.options or entry.choice in smallest]

    def known(self) -> list[Candidate]:
        """The candidates whose estimates have been made, cheapest first."""
        return [candidate for candidate in self.candidates if candidate.workload in self._estimates]

    def _plainest(self, lowest: Candidate) -> Candidate:
        """Leave levers alone one by one as long as that costs no memory."""
        by_choice = {candidate.choice: candidate for candidate in self.candidates}
        current = lowest
        for place in range(len(LEVERS)):
            fewer = by_choice[(*current.choice[:place], 0, *current.choice[place + 1 :])]
            if self.high(fewer) <= self.high(current):
                current = fewer
        return current

    def _ruled_out(self, candidate: Candidate) -> bool:
        family = self._families[candidate.habits]
        if self._too_large(min(family, key=_extent)):
            return True
        length, micro = candidate.extent
        return micro > self._micro_limit(candidate.habits, length)

    def _micro_limit(self, habits: Habits, length: int) -> int:
        """The largest micro-batch of a family and length that is not too large by itself; 0 if none."""
        key = habits, length
        if key not in self._micro_limits:
            alike = (other for other in self._families[habits] if other.extent[0] == length)
            same = sorted(alike, key=_extent)
            first_too_large = bisect_left(same, True, key=self._too_large)
            self._micro_limits[key] = same[first_too_large - 1].workload.batch.micro if first_too_large else 0
        return self._micro_limits[key]

    def _too_large(self, candidate: Candidate) -> bool:
        """Whether allocated memory and context alone exceed the limit, so that anything larger does too."""
        target, workload = self.policy.target, candidate.workload
        if self._floor is not None and workload not in self._estimates:
            return self._floor(workload, target) + target.context + self.policy.margin > target.limit
        device = self.measure(workload).device
        return device.peak_allocated + device.context + self.policy.margin > target.limit


def _extent(candidate: Candidate) -> tuple[int, int]:
    return candidate.extent
