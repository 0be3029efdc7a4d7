"""Plans for mechanisms: the cheapest settings that fit, out of all that the program offers.

A program offers few options, so every combination is priced: harm, how far it goes, time, number of changes.
They are tried in that order, so the first that fits is the best. Values declared tunable may change the
experiment, as their owner allowed that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, product

from memplan import programs
from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.churn import Renewal
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm
from memplan.domain.plan import Alternative, Option, Plan
from memplan.domain.setting import Settings
from memplan.domain.wording import in_words
from memplan.domain.workload import Workload
from memplan.estimate.mechanism import settings_of
from memplan.fit.changes import changes_of
from memplan.fit.combination import WORTH_KNOWING, largest_component, unchanged
from memplan.fit.hopeless import Hopeless, Picked
from memplan.fit.policy import Estimator, Policy
from memplan.levers.cost import slowdown

MOST_ALTERNATIVES = 3
CONSIDERED = 24
"""How many dearer settings that fit are looked at for alternatives: each costs a simulation."""

Price = tuple[Harm, int, float, int]
"""Harm, its degree, time, number of changed settings: what is minimised before memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One option or none of each kind, and the workload they give."""

    picked: Picked
    options: tuple[Option, ...]
    workload: Workload
    slowdown: float
    price: Price


def plan_settings(workload: Workload, policy: Policy, estimator: Estimator, *, brief: bool = False) -> Plan:
    """The cheapest settings that fit, or those with the least memory when none do."""
    before = estimator(workload, policy.target)
    if policy.accepts(before) and refusal(workload) is None:
        return unchanged(before, policy, feasible=True)
    search = _Search(workload, policy, estimator)
    fitting = search.fitting()
    best = next(fitting, None)
    if best is None:
        found = search.plan(search.least(), before, feasible=False)
        offer = None if brief else search.offer()
        if policy.accepts(found.after):
            refused = refusal(found.after.workload)
            assert refused is not None
            return replace(found, offer=offer or refused.message)
        return replace(found, blocking=largest_component(found.after), offer=offer)
    found = search.plan(best, before, feasible=True)
    return found if brief else replace(found, alternatives=tuple(search.leaner(best, fitting)))


def refusal(workload: Workload) -> Renewal | None:
    """What a run makes anew although its own settings refuse that, whatever memory there is."""
    assert isinstance(workload.model, DeclaredModel)
    found = programs.renewal(workload.model.mechanism, settings_of(workload.model))
    return found if found is not None and found.refused else None


class _Search:
    """Every combination that a policy permits, in the order of price."""

    def __init__(self, workload: Workload, policy: Policy, estimator: Estimator) -> None:
        assert isinstance(workload.model, DeclaredModel)
        assert workload.model.mechanism is not None
        self.workload = workload
        self.policy = policy
        self._estimator = estimator
        self._program = programs.find(workload.model.mechanism)
        levers = self._program.options(settings_of(workload.model))
        self._kinds = [[None, *(option for option in kind if self._permits(option))] for kind in levers]
        room = policy.target.limit - policy.margin
        self._hopeless = Hopeless(self._kinds, room, self._needs_of)

    def measure(self, workload: Workload) -> Estimate:
        """The estimate of a workload on the policy's target."""
        return self._estimator(workload, self.policy.target)

    def needs(self, candidate: Candidate) -> int:
        """What it takes at most, of the memory it runs in."""
        found = self.measure(candidate.workload)
        return found.host.high if candidate.workload.on_host else found.device.high

    def candidates(self) -> list[Candidate]:
        """Every combination that makes sense, cheapest first."""
        found = (self._candidate(picked) for picked in product(*self._kinds))
        return sorted((item for item in found if item is not None), key=lambda item: item.price)

    def fitting(self) -> Iterator[Candidate]:
        """Those that fit, cheapest first; of equal ones the one that takes least."""
        waiting = self.candidates()
        while waiting:
            price = waiting[0].price
            equal = [item for item in waiting if item.price == price]
            waiting = waiting[len(equal) :]
            yield from sorted(
                (item for item in equal if item.picked not in self._hopeless and self._fits(item)),
                key=self.needs,
            )

    def _fits(self, item: Candidate) -> bool:
        fits = self.policy.accepts(self.measure(item.workload))
        if not fits:
            self._hopeless.look(item.picked)
        return fits and refusal(item.workload) is None

    def least(self) -> Candidate:
        """The one that takes least, once it is known that none fits."""
        left = (item for item in self.candidates() if item.picked not in self._hopeless)
        return min(left, key=lambda item: (self.needs(item), item.price))

    def plan(self, chosen: Candidate, before: Estimate, *, feasible: bool) -> Plan:
        """A candidate as a plan."""
        return Plan(
            feasible=feasible,
            harm=chosen.price[0],
            changes=changes_of(self.workload, chosen.options, self.measure, self.policy.target),
            before=before,
            after=self.measure(chosen.workload),
            margin=self.policy.margin,
            slowdown=chosen.slowdown,
            profile=self.policy.profile,
        )

    def leaner(self, best: Candidate, others: Iterable[Candidate]) -> Iterator[Alternative]:
        """Dearer settings that leave more memory free, each a twentieth of the limit more than the last."""
        ceiling, step = self.needs(best), self.policy.target.limit // WORTH_KNOWING
        shown = 0
        for item in islice(others, CONSIDERED):
            if shown == MOST_ALTERNATIVES or self.needs(item) > ceiling - step:
                continue
            freed = Bytes(self.needs(best) - self.needs(item))
            ceiling, shown = self.needs(item), shown + 1
            yield Alternative(
                name=in_words(changes_of(self.workload, item.options, None, self.policy.target)),
                changes=changes_of(self.workload, item.options, self.measure, self.policy.target),
                harm=item.price[0],
                feasible=True,
                after=self.measure(item.workload),
                slowdown=item.slowdown,
                trade=f"frees {freed.rounded()} more",
            )

    def offer(self) -> str | None:
        """What more harm would make fit."""
        for harm in Harm:
            if harm > self.policy.allow:
                wider = _Search(self.workload, replace(self.policy, allow=harm), self._estimator)
                best = next(wider.fitting(), None)
                if best is not None:
                    told = in_words(changes_of(self.workload, best.options, None, self.policy.target))
                    return f"--allow {harm.label} fits: {told}"
        return None

    def _permits(self, option: Option) -> bool:
        consented = all(name in self.policy.tunable for name in option.changes)
        return self.policy.permits(replace(option, harm=Harm.EXACT) if consented else option)

    def _needs_of(self, picked: Picked) -> int | None:
        item = self._candidate(picked)
        return None if item is None else self.needs(item)

    def _candidate(self, picked: Picked) -> Candidate | None:
        workload = self.workload
        options = tuple(option for option in picked if option)
        for option in options:
            for name, value in option.changes.items():
                workload = workload.changed(name, value)
        assert isinstance(workload.model, DeclaredModel)
        settings: Settings = settings_of(workload.model)
        if self._program.problem(settings) is not None:
            return None
        time = slowdown(self.workload, workload, self.policy.target)
        return Candidate(
            picked=picked,
            options=options,
            workload=workload,
            slowdown=time,
            price=(
                max((option.harm for option in options), default=Harm.EXACT),
                sum(option.degree for option in options),
                _told_apart(time),
                sum(len(option.changes) for option in options),
            ),
        )


def _told_apart(time: float) -> float:
    """A time to a hundredth; of a far faster algorithm to three digits, whose settings differ within them."""
    return round(time, 2) if time > 0.1 else float(f"{time:.3g}")
