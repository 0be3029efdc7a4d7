"""The smallest change that makes a run fit: least harm first, then speed, then fewest changes.

A language model is searched over every combination of the levers' options (``combination``, ``search``). A
declared model has no levers: the values its owner declared tunable move along the rungs of a named profile
(``ladder``), or they are settings of a mechanism that offers others (``settings``). Either way an impossible
fit is a plan too: the closest one, and what blocks it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.edit import Advice
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm
from memplan.domain.plan import Option, Plan
from memplan.domain.target import Target
from memplan.domain.workload import Workload
from memplan.estimate import estimate
from memplan.estimate.simulation import least_allocated
from memplan.fit.combination import plan_levers
from memplan.fit.ladder import plan_declared
from memplan.fit.policy import Estimator, Floor, Policy, policy_for
from memplan.fit.ram import short_of_ram

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

__all__ = ["fit"]


def fit(
    reading: Reading,
    target: Target,
    *,
    profile: str | None = None,
    margin: str | Bytes | None = None,
    allow: Harm = Harm.EXACT,
    keep: Sequence[str] = (),
    estimator: Estimator | None = None,
    floor: Floor | None = None,
    brief: bool = False,
) -> Plan:
    """The plan for a config on a target.

    Args:
        reading: the config.
        target: where it has to fit.
        profile: a named profile of the target's GPU; it sets a margin, the harm it allows, and the
            rungs of tunable values. Default: the one the config names, and for tunable values the
            GPU's default profile.
        margin: memory to keep free, as a share of the limit (``"10%"``) or an amount (``"500MiB"``).
            Default: the named profile's if ``profile`` is given, else the config's, else the profile's.
        allow: the worst harm a change may do, apart from values declared tunable.
        keep: fields no change may touch: native paths, whole sections, or names of declared values.
        estimator: what counts the bytes; ``memplan.estimate`` when not given.
        floor: what tells the bytes that are allocated at the least; ``least`` when neither is given.
        brief: whether to leave out what goes beyond the plan and takes most of the time: alternatives, what
            more harm would give, the savings of each change.

    Returns:
        A plan whose upper bound plus the margin is within the target's limit, without changes when
        the config fits as it is; or an infeasible plan with the least memory the policy can reach.
        Options that the config's own file can express are preferred to those that would be advice.

    Raises:
        FieldError: the margin is not an amount or a share.
        UnknownNameError: a kept field or the profile does not exist.
    """
    from memplan.dialects import edits

    count = _remembered(estimator or estimate)
    bottom = floor if floor is not None or estimator is not None else least
    policy = policy_for(reading, target, profile=profile, margin=margin, allow=allow, keep=tuple(keep))
    plan = short_of_ram(_plan(reading, policy, count, bottom, brief=brief), target)
    if not plan.changes:
        return replace(plan, files=dict(reading.files))
    written, advice = edits(reading, [(change.field, change.before, change.after) for change in plan.changes])
    return replace(plan, edits=written, advice=advice, files=dict(reading.files))


def _plan(reading: Reading, policy: Policy, count: Estimator, floor: Floor | None, *, brief: bool) -> Plan:
    model = reading.workload.model
    if isinstance(model, DeclaredModel) and model.mechanism is not None:
        from memplan.fit.settings import plan_settings

        return plan_settings(reading.workload, policy, count, brief=brief)
    if isinstance(model, DeclaredModel):
        return plan_declared(reading.workload, policy, count)
    advice = _advising(reading)

    def writable(option: Option) -> bool:
        return not advice(option)

    def startable(option: Option) -> bool:
        return all(item.outside for item in advice(option))

    def possible(option: Option) -> bool:
        return not any(item.impossible for item in advice(option))

    limited = replace(policy, writable=writable, startable=startable, possible=possible)
    return plan_levers(reading.workload, limited, count, floor, brief=brief)


def _advising(reading: Reading) -> Callable[[Option], tuple[Advice, ...]]:
    """What the config's dialect cannot write of an option, or its text leaves no room for."""
    from memplan.dialects import edits

    known: dict[tuple[tuple[str, Any], ...], tuple[Advice, ...]] = {}

    def advice(option: Option) -> tuple[Advice, ...]:
        key = tuple(option.changes.items())
        if key not in known:
            known[key] = edits(reading, [(name, reading.workload.at(name), value) for name, value in key])[1]
        return known[key]

    return advice


def least(workload: Workload, target: Target) -> int:
    """Bytes that a workload allocates at once at the least: the floor of a search."""
    assert isinstance(workload.model, Architecture)
    return least_allocated(workload, workload.model, target.compute_capability)


def _remembered(estimator: Estimator) -> Estimator:
    """The estimator, asked once per workload."""
    made: dict[Workload, Estimate] = {}

    def count(workload: Workload, target: Target | None) -> Estimate:
        if workload not in made:
            made[workload] = estimator(workload, target)
        return made[workload]

    return count
