"""Plans for language models: what the search finds, other plans worth knowing, and what blocks a fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm
from memplan.domain.plan import Alternative, Plan
from memplan.domain.wording import in_words, listed
from memplan.domain.workload import Workload
from memplan.estimate.gaps import boundless
from memplan.fit.changes import changes_of
from memplan.fit.policy import Estimator, Floor, Policy
from memplan.fit.search import Search
from memplan.fit.space import Candidate

MOST_ALTERNATIVES = 5
WORTH_KNOWING = 20
"""An alternative frees at least this part of the limit (a 20th) more than the plan before it."""

EFFORT = 60
"""Floors that are made in search of what goes beyond the plan, each time: a few milliseconds each."""

FASTER = 0.98
"""A faster plan that asks for something (a package, an edit by hand) is worth knowing from 2 % on."""


def plan_levers(
    workload: Workload,
    policy: Policy,
    estimator: Estimator,
    floor: Floor | None = None,
    *,
    brief: bool = False,
) -> Plan:
    """The cheapest combination of levers that fits, or the closest when none does.

    What the config's own file can say comes first, then what the environment of the run can: options that
    would have to be set by hand are in the plan only where nothing else fits. ``floor`` spares estimates of
    what cannot fit; without it they are made.
    A ``brief`` plan is the same without what goes beyond it: alternatives, offers, savings of each change.
    """
    before = estimator(workload, policy.target)
    if policy.accepts(before):
        return unchanged(before, policy, feasible=True)
    search = Search(workload, policy, estimator, {workload: before}, floor)
    started = search.under(replace(policy, writable=policy.startable)) if policy.startable else search
    anyhow = search.under(replace(policy, writable=policy.possible)) if policy.writable else search
    hopeless = floor is not None and _boundless(workload)
    if hopeless and _within(before, policy):
        return unchanged(before, policy, feasible=False)
    for searched in () if hopeless else _distinct(search, started, anyhow):
        frontier = searched.frontier(policy.target.limit // WORTH_KNOWING)
        best = next(frontier, None)
        if best is not None and brief:
            return replace(_plan(searched, best, before, brief=True), feasible=True)
        if best is not None:
            searched.allow(EFFORT)
            others = [*_roomier(searched, best, frontier), *_faster(anyhow, best, policy)]
            return replace(
                _plan(searched, best, before), feasible=True, alternatives=tuple(others[:MOST_ALTERNATIVES])
            )
    return _closest(search, anyhow, before, brief=brief)


def _distinct(*searches: Search) -> Iterator[Search]:
    """The searches without those that have the choices of the one before."""
    before = None
    for search in searches:
        if search.space.settings != before:
            yield search
        before = search.space.settings


def _boundless(workload: Workload) -> bool:
    """Whether no plan can be sure to fit, so that none is looked for."""
    return isinstance(workload.model, Architecture) and boundless(workload, workload.model)


def _within(before: Estimate, policy: Policy) -> bool:
    """Whether what has bounds fits as it is: then no change would bring anything."""
    return before.device.failure is None and policy.misses(before) <= 0 and policy.has_ram(before)


def unchanged(before: Estimate, policy: Policy, *, feasible: bool) -> Plan:
    """The plan that changes nothing."""
    return Plan(
        feasible=feasible,
        harm=Harm.EXACT,
        changes=(),
        before=before,
        after=before,
        margin=policy.margin,
        profile=policy.profile,
    )


def largest_component(estimate: Estimate) -> str | None:
    """Name of the largest share of memory at the peak."""
    components = (estimate.host if estimate.workload.on_host else estimate.device).components
    return max(components, key=lambda part: part.bytes).name if components else None


def _plan(search: Search, chosen: Candidate, before: Estimate, *, brief: bool = False) -> Plan:
    measure = None if brief else search.measure
    return Plan(
        feasible=False,
        harm=chosen.harm,
        changes=changes_of(search.workload, chosen.options, measure, search.policy.target),
        before=before,
        after=search.measure(chosen.workload),
        margin=search.policy.margin,
        slowdown=chosen.slowdown,
        profile=search.policy.profile,
    )


def _closest(search: Search, anyhow: Search, before: Estimate, *, brief: bool) -> Plan:
    plan = _plan(anyhow, anyhow.least(), before, brief=brief)
    offer = None if brief else _offer(search, anyhow)
    return replace(plan, blocking=largest_component(plan.after), offer=offer)


def _offer(search: Search, anyhow: Search) -> str | None:
    """What more harm would give: whether it fits, by which changes, or by how much it misses.

    What the config's own file can say comes first, as in a plan.
    """
    if search.policy.allow is Harm.BEHAVIOUR:
        return None
    wide = [each.under(replace(each.policy, allow=Harm.BEHAVIOUR)) for each in (search, anyhow)]
    found = next((best for each in wide if (best := _hurried(each)) is not None), None)
    chosen = found or wide[-1].least()
    if chosen.harm <= search.policy.allow:
        return None
    words = in_words(changes_of(search.workload, chosen.options, None, search.policy.target))
    after = search.measure(chosen.workload)
    missing = search.policy.misses(after)
    if search.policy.accepts(after):
        return f"--allow {chosen.harm.label} fits with {Bytes(-missing).rounded()} to spare: {words}"
    ram = search.policy.misses_ram(after)
    if missing <= 0 and not ram:
        return None  # what is not modelled decides
    what = f"{missing.rounded()}" if missing > 0 else f"{ram.rounded()} of host RAM"
    return f"even --allow {chosen.harm.label} misses by {what}: {words}"


def _hurried(search: Search) -> Candidate | None:
    """The best of a search that may give up."""
    if _boundless(search.workload):
        return None
    search.allow(EFFORT)
    return search.best()


def _roomier(search: Search, best: Candidate, frontier: Iterator[Candidate]) -> Iterator[Alternative]:
    """Plans with more headroom that are slower: the frontier beyond the best, as far as they harm no more."""
    for entry in islice(frontier, MOST_ALTERNATIVES - 1):
        if entry.harm > best.harm:
            return
        yield _alternative(search, best, entry, search.policy)


def _faster(search: Search, best: Candidate, policy: Policy) -> Iterator[Alternative]:
    """The fastest plan if packages and edits by hand were free, where it is worth knowing."""
    eager = search.under(replace(search.policy, allow=best.harm, packages_matter=False))
    found = _hurried(eager)
    if found is not None and found.slowdown < FASTER * best.slowdown:
        yield _alternative(search, best, found, policy)


def _alternative(search: Search, best: Candidate, other: Candidate, policy: Policy) -> Alternative:
    changes = changes_of(search.workload, other.options, None, search.policy.target)
    freed = Bytes(search.high(best) - search.high(other))
    needs = [name for name in other.requires if name not in best.requires]
    if not all(policy.permits(option) for option in other.options):
        needs.append("an edit by hand")
    trade = _trade(freed, other.slowdown / best.slowdown)
    return Alternative(
        name=in_words([change for change in changes if change.field != "batch.accumulation"]),
        changes=changes,
        harm=other.harm,
        feasible=True,
        after=search.measure(other.workload),
        slowdown=other.slowdown,
        trade=f"{trade}, needs {listed(needs)}" if needs else trade,
    )


def _trade(freed: Bytes, ratio: float) -> str:
    percent = round(100 * (ratio - 1))
    room = f"{freed.rounded()} more headroom" if freed >= 0 else f"{Bytes(-freed).rounded()} less headroom"
    pace = f"{percent} % slower" if percent > 0 else f"{-percent} % faster" if percent < 0 else "as fast"
    return f"{room}, {pace}"
