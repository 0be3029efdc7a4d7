"""Laws of planning: as good as brute force, never more harm than allowed, fits when it says so."""

from __future__ import annotations

from itertools import product
from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.plan import Harm
from memplan.domain.workload import Attention, Checkpointing, Workload
from memplan.fit import fit
from memplan.fit.policy import Policy
from memplan.fit.search import Search
from memplan.levers import LEVERS
from memplan.levers.cost import slowdown
from tests.planning import MIB, Counter, estimate, reading, target, workload

workloads = st.builds(
    lambda micro, accumulation, length, every, eager: (
        workload(micro, accumulation, length)
        .changed("checkpointing", Checkpointing(every=every))
        .changed("attention", Attention.EAGER if eager else Attention.SDPA)
    ),
    micro=st.sampled_from([1, 2, 3, 4, 6, 8, 12]),
    accumulation=st.sampled_from([1, 2, 5]),
    length=st.sampled_from([256, 384, 512, 1024, 2048]),
    every=st.sampled_from([0, 1, 2]),
    eager=st.booleans(),
)
limits = st.integers(150, 9000)
harms = st.sampled_from([Harm.EXACT, Harm.BEHAVIOUR])
margins = st.sampled_from(["0%", "10%", "200MiB"])


def cheapest(what: Workload, allow: Harm, room: int) -> tuple[Harm, float, int, int] | None:
    """The best price and memory by trying everything, without any of the search's shortcuts."""
    found = []
    for combination in product(*((None, *lever.options(what, None)) for lever in LEVERS)):
        options = [option for option in combination if option is not None]
        harm = max((option.harm for option in options), default=Harm.EXACT)
        after = what
        for option in options:
            for field, value in option.changes.items():
                after = after.changed(field, value)
        high = estimate(after).device.high
        if harm <= allow and high <= room:
            changes = sum(len(option.changes) for option in options)
            found.append((harm, round(slowdown(what, after, None), 3), changes, int(high)))
    return min(found, default=None)


@settings(max_examples=150, deadline=None)
@given(what=workloads, mib=limits, allow=harms)
def test_the_plan_is_the_one_brute_force_finds(what: Workload, mib: int, allow: Harm) -> None:
    where = target(mib)
    found = Search(what, Policy(target=where, margin=type(where.limit)(0), allow=allow), estimate)
    best = found.best()
    expected = cheapest(what, allow, mib * MIB)
    assert (None if best is None else (*best.price, found.high(best))) == expected


@settings(max_examples=100, deadline=None)
@given(what=workloads, mib=limits, allow=harms, margin=margins)
def test_a_plan_keeps_what_it_promises(what: Workload, mib: int, allow: Harm, margin: str) -> None:
    where = target(mib)
    if margin == "200MiB" and mib <= 200:
        margin = "0%"
    plan = fit(reading(what), where, margin=margin, allow=allow, estimator=estimate)
    again = estimate(plan.after.workload, where)
    changed = what
    for change in plan.changes:
        assert change.before != change.after
        changed = changed.changed(change.field, change.after)

    assert plan.feasible == (again.device.high + plan.margin <= where.limit)
    assert plan.harm <= allow
    assert all(change.harm <= allow for change in plan.changes)
    assert changed == plan.after.workload
    assert changed.batch.micro * changed.batch.accumulation == what.batch.micro * what.batch.accumulation
    assert plan.feasible or (plan.blocking is not None and plan.after.device.high <= plan.before.device.high)


@settings(max_examples=100, deadline=None)
@given(what=workloads, mib=limits)
def test_alternatives_fit_and_do_no_more_harm_than_the_plan(what: Workload, mib: int) -> None:
    plan = fit(reading(what), target(mib), allow=Harm.BEHAVIOUR, estimator=estimate)
    for other in plan.alternatives:
        assert other.feasible
        assert other.after.device.high < plan.after.device.high <= mib * MIB
        assert other.harm <= plan.harm


@settings(max_examples=60, deadline=None)
@given(what=workloads, spread=st.integers(0, 300), mib=limits)
def test_more_room_never_makes_a_plan_worse(what: Workload, spread: int, mib: int) -> None:
    unsure = Counter(spread=spread * MIB)
    small = fit(reading(what), target(mib), estimator=unsure)
    large = fit(reading(what), target(ceil(mib * 1.2)), estimator=unsure)
    assert large.feasible or not small.feasible
    if small.feasible:
        assert (large.harm, round(large.slowdown, 3)) <= (
            small.harm,
            round(small.slowdown, 3),
        ) or not large.changes


@settings(max_examples=40, deadline=None)
@given(what=workloads, mib=limits)
def test_no_workload_is_estimated_twice_by_one_search(what: Workload, mib: int) -> None:
    counter = Counter()
    fit(reading(what), target(mib), estimator=counter)
    assert len(set(counter.asked)) == len(counter.asked)
