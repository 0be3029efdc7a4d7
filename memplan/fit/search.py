"""Exact search over every choice of the levers' options, by branch and bound.

Candidates come in the order of their price: harm and how far it goes, new packages, modelled slowdown, number
of changes. The first that fits wins, and among equals the one with most headroom. Choices are made lever
by lever, those with the lowest bound on their price first, so that candidates are met in order without making
all of them; and a choice is dropped with everything that begins like it when even its leanest end allocates
more than the target holds (``space`` says why that is enough). What an end allocates is a floor in
milliseconds; estimates, which are ten times slower, are made of candidates alone that pass it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError
from memplan.domain.estimate import Estimate
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Workload
from memplan.estimate import dies
from memplan.estimate.host import host_floor
from memplan.estimate.standing import standing
from memplan.fit.policy import Estimator, Floor, Policy
from memplan.fit.space import SLACK, Candidate, Choice, Price, Space
from memplan.levers.compatible import compatible

NEAR = 0.8
"""Part of the room from which on a run is likely enough to die that this is tried first."""


class Search:
    """One search; remembers every estimate and every floor it made."""

    def __init__(
        self,
        workload: Workload,
        policy: Policy,
        estimator: Estimator,
        estimates: dict[Workload, Estimate] | None = None,
        floor: Floor | None = None,
        floors: dict[Workload, int] | None = None,
    ) -> None:
        self.workload = workload
        self.policy = policy
        self.space = Space(workload, policy)
        self._estimator = estimator
        self._estimates = {} if estimates is None else estimates
        self._floor = floor
        self._floors = {} if floors is None else floors
        self._most: int | None = None

    def under(self, policy: Policy) -> Search:
        """A search of the same workload under another policy that shares what was counted so far."""
        return Search(self.workload, policy, self._estimator, self._estimates, self._floor, self._floors)

    @property
    def looked_at(self) -> int:
        """Workloads of which a floor or an estimate was made."""
        return len(self._floors.keys() | self._estimates.keys())

    def measure(self, workload: Workload) -> Estimate:
        """The estimate of a workload, made once."""
        if workload not in self._estimates:
            self._estimates[workload] = self._estimator(workload, self.policy.target)
        return self._estimates[workload]

    def best(self) -> Candidate | None:
        """The cheapest candidate that fits with the margin; None when none does."""
        return next(self.frontier(), None)

    def frontier(self, step: int = 1) -> Iterator[Candidate]:
        """The best candidate, then always the cheapest that needs ``step`` bytes less than the last.

        It ends early, at the same place every time, when more floors were made than ``allow`` granted.
        """
        ceiling = Bytes(self.policy.target.limit - self.policy.margin)
        if not self.promising():
            return
        waiting: list[tuple[Price, Choice]] = [(self.space.bound(()), ())]
        while waiting and not self._tired():
            fitting = [entry for entry in self._cheapest(waiting, ceiling) if self._accepted(entry, ceiling)]
            if fitting:
                found = min(fitting, key=lambda entry: (entry.price, self.high(entry), entry.choice))
                yield found
                ceiling = Bytes(self.high(found) - step)

    def allow(self, floors: int) -> None:
        """Let the search make so many more floors, and no more."""
        self._most = len(self._floors) + floors

    def _tired(self) -> bool:
        return self._most is not None and len(self._floors) >= self._most

    def promising(self) -> bool:
        """Whether the leanest choices leave any hope: False proves that nothing fits."""
        workloads = (no_more(entry.workload) for entry in self.space.leanest(()))
        return self._any(workloads, Bytes(self.policy.target.limit - self.policy.margin))

    def high(self, candidate: Candidate) -> Bytes:
        """The upper bound of the process's memory."""
        return self.measure(candidate.workload).device.high

    def fits(self, candidate: Candidate) -> bool:
        """Whether a candidate fits with the margin."""
        return self._accepted(candidate, Bytes(self.policy.target.limit - self.policy.margin))

    def least(self) -> Candidate:
        """The candidate that allocates least, without changes that bring it no nearer to fitting."""
        return self._plainest(
            min(
                self._leanest(),
                key=lambda entry: (self._allocated(entry.workload), entry.price, entry.choice),
            )
        )

    def _cheapest(self, waiting: list[tuple[Price, Choice]], ceiling: Bytes) -> list[Candidate]:
        """All candidates of the lowest price that may fit; they are taken out of those waiting."""
        found: list[Candidate] = []
        while waiting and (not found or waiting[0][0] <= found[0].price):
            _, choice = heappop(waiting)
            if not self._possible(choice, ceiling):
                continue
            if self.space.whole(choice):
                found.append(self.space.candidate(choice))
                continue
            for further in self.space.following(choice):
                heappush(waiting, (self.space.bound(further), further))
        return found

    def _possible(self, choice: Choice, ceiling: Bytes) -> bool:
        """Whether something that begins like a choice may need no more than the ceiling."""
        if self.space.whole(choice):
            return self._any([self.space.candidate(choice).workload], ceiling)
        return self._any((no_more(entry.workload) for entry in self.space.leanest(choice)), ceiling)

    def _any(self, workloads: Iterable[Workload], ceiling: Bytes) -> bool:
        room = ceiling - self.policy.target.context + SLACK
        return any(
            self._may_have_ram(workload) and self._allocated(workload) <= room for workload in workloads
        )

    def _may_have_ram(self, workload: Workload) -> bool:
        """Whether the host's RAM is enough for what needs no simulation to be known."""
        target = self.policy.target
        if target.ram is None or self._floor is None:
            return True
        return host_floor(workload, target.overhead_of(workload)) <= target.ram

    def _accepted(self, candidate: Candidate, ceiling: Bytes) -> bool:
        if not compatible(candidate.workload):
            return False
        if candidate.workload not in self._estimates and self._dies(candidate.workload):
            return False
        found = self.measure(candidate.workload)
        return found.device.stays_within(ceiling) and self.policy.has_ram(found)

    def _dies(self, workload: Workload) -> bool:
        """Whether a run that comes near the limit ends there: an estimate would take longer to say so."""
        target = self.policy.target
        room = target.limit - target.context
        near = self._floor is not None and self._allocated(workload) > NEAR * room
        return near and dies(workload, target)

    def _allocated(self, workload: Workload) -> int:
        """Bytes that a workload allocates at once at the least; 0 of one that cannot run as it is.

        How the allocator and the host go about it does not matter for that.
        """
        alike = workload.changed("allocator", self.workload.allocator).changed("host", self.workload.host)
        if alike not in self._floors:
            self._floors[alike] = self._count(alike)
        return self._floors[alike]

    def _count(self, workload: Workload) -> int:
        if self._floor is None or workload in self._estimates:
            return self.measure(workload).device.peak_allocated
        held = standing(workload)
        if held > self.policy.target.limit:
            return held
        try:
            return self._floor(workload, self.policy.target)
        except FieldError:
            return 0

    def _leanest(self) -> list[Candidate]:
        """The unchanged workload and the leanest choices."""
        entries = [self.space.candidate((0,) * len(self.space.settings)), *self.space.leanest(())]
        return [entry for entry in entries if not entry.options or compatible(entry.workload)]

    def _distance(self, candidate: Candidate) -> tuple[int, Bytes]:
        """How far a candidate is from fitting: bytes that are missing, then bytes that it needs."""
        found = self.measure(candidate.workload)
        missing = max(0, self.policy.misses(found)) + self.policy.misses_ram(found)
        return missing, found.device.high

    def _plainest(self, lowest: Candidate) -> Candidate:
        """Leave levers alone one by one as long as that brings the candidate no further from fitting."""
        current = lowest
        for place in range(len(current.choice)):
            fewer = self.space.candidate((*current.choice[:place], 0, *current.choice[place + 1 :]))
            if fewer is not current and self._no_further(fewer, current):
                current = fewer
        return current

    def _no_further(self, fewer: Candidate, current: Candidate) -> bool:
        if not compatible(fewer.workload):
            return False
        if self._allocated(fewer.workload) + self.policy.target.context > self.high(current):
            return False
        return self._distance(fewer) <= self._distance(current)


def no_more(workload: Workload) -> Workload:
    """A workload that allocates no more, and is simulated sooner.

    Activations copied to the host beside the computation are held for longer than those copied between
    kernels.
    """
    if workload.activation_offload is not ActivationOffload.STREAMS:
        return workload
    return workload.changed("activation_offload", ActivationOffload.SINGLE_STREAM)
