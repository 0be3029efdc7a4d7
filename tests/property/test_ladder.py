"""Laws of ladders: a declared model takes the first rung that fits, and only what is tunable ever moves."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import prod

from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.architecture import DeclaredModel, DeclaredTensor
from memplan.domain.bytes import Bytes
from memplan.domain.harm import Harm
from memplan.domain.margin import share
from memplan.domain.plan import Plan
from memplan.domain.workload import Workload
from memplan.fit.ladder import plan_declared
from memplan.fit.policy import Policy
from memplan.profiles import NamedProfile
from tests.planning import CONTEXT, MIB, estimate, target

NAMES = ("width", "depth", "length")
sizes = st.integers(1, 64)
tensors = st.lists(
    st.builds(
        DeclaredTensor,
        name=st.sampled_from(["table", "matrix", "states", "cache"]),
        shape=st.lists(st.sampled_from(NAMES), max_size=3).map(tuple),
        fixed=st.integers(0, 20 * MIB).map(Bytes),
        per=st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 4 * MIB).map(Bytes)), max_size=2).map(
            tuple
        ),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda tensor: tensor.name,
).map(tuple)
workloads = st.builds(
    lambda parts, values: Workload(
        model=DeclaredModel(tensors=parts, values=tuple(zip(NAMES, values, strict=True)))
    ),
    tensors,
    st.tuples(sizes, sizes, sizes),
)
rungs = st.lists(st.dictionaries(st.sampled_from(NAMES), sizes, min_size=1), min_size=1, max_size=4)
profiles = st.lists(st.tuples(rungs, st.sampled_from([0.0, 0.1, 0.25, 0.5])), min_size=1, max_size=3).map(
    lambda drawn: tuple(
        NamedProfile(
            name=f"profile-{number}",
            gpu="any",
            summary="Of tests.",
            margin=margin,
            allow="exact",
            rungs=tuple(ladder),
            default=not number,
        )
        for number, (ladder, margin) in enumerate(drawn)
    )
)
tunables = st.sets(st.sampled_from(NAMES)).map(tuple)


def needed(model: DeclaredModel, values: Mapping[str, int]) -> int:
    """What the process needs, counted apart from the domain's own sum."""
    total = int(CONTEXT)
    for tensor in model.tensors:
        total += tensor.fixed + sum(amount * values[name] for name, amount in tensor.per)
        total += 4 * prod(values[str(side)] for side in tensor.shape) if tensor.shape else 0
    return total


def lowered(now: Mapping[str, int], rung: Mapping[str, int], tunable: tuple[str, ...]) -> dict[str, int]:
    return {name: min(now[name], rung.get(name, now[name])) if name in tunable else now[name] for name in now}


def numbers(model: DeclaredModel) -> dict[str, int]:
    return {name: value for name, value in model.values if isinstance(value, int)}


def expected(
    what: Workload, profile: NamedProfile, tunable: tuple[str, ...], room: int
) -> tuple[bool, int] | None:
    """Whether a profile makes it fit and with how many bytes; None where it lowers nothing."""
    assert isinstance(what.model, DeclaredModel)
    now = numbers(what.model)
    steps = [lowered(now, rung, tunable) for rung in profile.rungs]
    found = [needed(what.model, values) for values in steps if values != now]
    fitting = [size for size in found if size <= room]
    if fitting:
        return True, fitting[0]
    return (False, min(found)) if found else None


def planned(
    what: Workload, ladder: tuple[NamedProfile, ...], tunable: tuple[str, ...], mib: int
) -> tuple[Plan, Policy]:
    where = target(mib)
    policy = Policy(
        target=where,
        margin=share(Decimal(str(ladder[0].margin)), where),
        tunable=tunable,
        profile=ladder[0].name,
        profiles=ladder,
    )
    return plan_declared(what, policy, estimate), policy


cases = {"what": workloads, "ladder": profiles, "tunable": tunables, "mib": st.integers(110, 1200)}


@settings(max_examples=80, deadline=None)
@given(**cases)
def test_the_plan_is_the_first_rung_that_fits_or_the_smallest(
    what: Workload, ladder: tuple[NamedProfile, ...], tunable: tuple[str, ...], mib: int
) -> None:
    assert isinstance(what.model, DeclaredModel)
    plan, policy = planned(what, ladder, tunable, mib)
    room = policy.target.limit - policy.margin
    before = needed(what.model, numbers(what.model))
    wanted = (True, before) if before <= room else expected(what, ladder[0], tunable, room)
    assert (plan.feasible, plan.after.device.process) == (wanted or (False, before))
    assert bool(plan.changes) is (before > room and wanted is not None)


@settings(max_examples=80, deadline=None)
@given(**cases)
def test_only_tunable_values_move_and_only_downwards(
    what: Workload, ladder: tuple[NamedProfile, ...], tunable: tuple[str, ...], mib: int
) -> None:
    plan, _ = planned(what, ladder, tunable, mib)
    for changes in (plan.changes, *(other.changes for other in plan.alternatives)):
        assert all(change.field in tunable and change.after < change.before for change in changes)
        assert all(change.harm is Harm.BEHAVIOUR for change in changes)


@settings(max_examples=80, deadline=None)
@given(**cases)
def test_alternatives_are_what_each_other_profile_gives_with_its_own_margin(
    what: Workload, ladder: tuple[NamedProfile, ...], tunable: tuple[str, ...], mib: int
) -> None:
    plan, policy = planned(what, ladder, tunable, mib)
    found = {other.name: (other.feasible, other.after.device.process) for other in plan.alternatives}
    limit = policy.target.limit
    wanted = {
        profile.name: expected(
            what, profile, tunable, limit - share(Decimal(str(profile.margin)), policy.target)
        )
        for profile in ladder[1:]
    }
    if plan.feasible and not plan.changes:
        assert not found
        return
    assert found == {name: given for name, given in wanted.items() if given is not None}
    fitting = next((name for name, (fits, _) in found.items() if fits), None)
    if not plan.feasible and fitting is not None:
        assert plan.offer is not None
        assert plan.offer.startswith(f"--profile {fitting} fits")


@settings(max_examples=40, deadline=None)
@given(**cases)
def test_savings_add_up_to_the_whole(
    what: Workload, ladder: tuple[NamedProfile, ...], tunable: tuple[str, ...], mib: int
) -> None:
    plan, _ = planned(what, ladder, tunable, mib)
    saved = sum(change.saves or 0 for change in plan.changes)
    assert saved == plan.before.device.process - plan.after.device.process
