"""Plans for language models: what the search finds, other plans worth knowing, and what blocks a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm
from memplan.domain.plan import Alternative, Plan
from memplan.domain.wording import in_words
from memplan.domain.workload import Workload
from memplan.fit.changes import changes_of
from memplan.fit.policy import Estimator, Floor, Policy
from memplan.fit.search import Candidate, Search

MOST_ALTERNATIVES = 5


def plan_levers(workload: Workload, policy: Policy, estimator: Estimator, floor: Floor | None = None) -> Plan:
    """The cheapest combination of levers that fits, or the closest when none does.

    ``floor`` spares estimates of what cannot fit; without it they are made.
    """
    before = estimator(workload, policy.target)
    if policy.accepts(before):
        return unchanged(before, policy, feasible=True)
    search = Search(workload, policy, estimator, {workload: before}, floor)
    best = search.best()
    if best is None:
        return _closest(search, before)
    return replace(
        _plan(search, best, before), feasible=True, alternatives=tuple(_alternatives(search, best))
    )


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
    components = estimate.device.components
    return max(components, key=lambda part: part.bytes).name if components else None


def _plan(search: Search, chosen: Candidate, before: Estimate) -> Plan:
    return Plan(
        feasible=False,
        harm=chosen.harm,
        changes=changes_of(search.workload, chosen.options, search.measure),
        before=before,
        after=search.measure(chosen.workload),
        margin=search.policy.margin,
        slowdown=chosen.slowdown,
        profile=search.policy.profile,
    )


def _closest(search: Search, before: Estimate) -> Plan:
    plan = _plan(search, search.least(), before)
    return replace(plan, blocking=largest_component(plan.after), offer=_offer(search))


def _offer(search: Search) -> str | None:
    """What more harm would give: whether it fits, by which changes, or by how much it misses.

    This is advice, not a plan: when the least memory that can be reached misses, nothing else is tried.
    """
    if search.policy.allow is Harm.BEHAVIOUR:
        return None
    wider = search.under(replace(search.policy, allow=Harm.BEHAVIOUR))
    least = wider.least()
    found = wider.best() if wider.fits(least) else None
    chosen = found or least
    if chosen.harm <= search.policy.allow:
        return None
    words = in_words(changes_of(search.workload, chosen.options, search.measure))
    missing = search.policy.misses(search.measure(chosen.workload))
    if found is not None:
        return f"--allow {found.harm.label} fits with {Bytes(-missing).rounded()} to spare: {words}"
    return f"even --allow {chosen.harm.label} misses by {missing.rounded()}: {words}"


def _alternatives(search: Search, best: Candidate) -> list[Alternative]:
    """Other plans on the memory-speed frontier: each has more headroom than every faster one."""
    pool = {entry.choice: entry for entry in [*search.corners(), *search.known()]}
    fitting = sorted(
        (entry for entry in pool.values() if entry.harm <= best.harm and search.fits(entry)),
        key=lambda entry: (entry.price, search.high(entry), entry.choice),
    )
    frontier: list[Candidate] = [best]
    for entry in fitting:
        if search.high(entry) < search.high(frontier[-1]):
            frontier.append(entry)
    return [_alternative(search, best, entry) for entry in _spread(frontier[1:])]


def _spread(frontier: Sequence[Candidate]) -> list[Candidate]:
    """At most five, evenly over the frontier, its last (the one with most headroom) always among them."""
    if len(frontier) <= MOST_ALTERNATIVES:
        return list(frontier)
    last = len(frontier) - 1
    return [frontier[place * last // (MOST_ALTERNATIVES - 1)] for place in range(MOST_ALTERNATIVES)]


def _alternative(search: Search, best: Candidate, other: Candidate) -> Alternative:
    changes = changes_of(search.workload, other.options, search.measure)
    return Alternative(
        name=in_words([change for change in changes if change.field != "batch.accumulation"]),
        changes=changes,
        harm=other.harm,
        feasible=True,
        after=search.measure(other.workload),
        slowdown=other.slowdown,
        trade=_trade(Bytes(search.high(best) - search.high(other)), other.slowdown / best.slowdown),
    )


def _trade(freed: Bytes, ratio: float) -> str:
    percent = round(100 * (ratio - 1))
    pace = f"{percent} % slower" if percent > 0 else f"{-percent} % faster" if percent < 0 else "as fast"
    return f"{freed.rounded()} more headroom, {pace}"
