"""The smallest change that makes a run fit: least harm first, then speed, then fewest changes.

A language model is searched over every combination of the levers' options (``combination``,
``search``). A declared model has no levers; the values its owner declared tunable move along the
rungs of a named profile (``ladder``). Either way an impossible fit is a plan too: the closest one,
and what blocks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.plan import Harm, Plan
from memplan.domain.target import Target
from memplan.fit.combination import plan_levers
from memplan.fit.ladder import plan_declared
from memplan.fit.policy import Estimator, policy_for

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
        estimator: what counts the bytes; ``memplan.estimate.estimate`` when not given.

    Returns:
        A plan whose upper bound plus the margin is within the target's limit, without changes when
        the config fits as it is; or an infeasible plan with the least memory the policy can reach.

    Raises:
        FieldError: the margin is not an amount or a share.
        UnknownNameError: a kept field or the profile does not exist.
    """
    from memplan.dialects import edits

    count = estimator or _default_estimator()
    policy = policy_for(reading, target, profile=profile, margin=margin, allow=allow, keep=tuple(keep))
    planner = plan_declared if isinstance(reading.workload.model, DeclaredModel) else plan_levers
    plan = planner(reading.workload, policy, count)
    if not plan.changes:
        return replace(plan, files=dict(reading.files))
    written, advice = edits(reading, [(change.field, change.before, change.after) for change in plan.changes])
    return replace(plan, edits=written, advice=advice, files=dict(reading.files))


def _default_estimator() -> Estimator:
    from memplan.estimate import estimate

    return estimate
