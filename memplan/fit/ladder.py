"""Plans for declared models: tunable values move down the rungs of a named profile.

A rung gives a value for each name; the first rung that fits with the profile's margin is taken.
Values are only ever lowered, and values that are not declared tunable never move.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm
from memplan.domain.plan import Alternative, Option, Plan
from memplan.domain.wording import in_words
from memplan.domain.workload import Workload
from memplan.fit.changes import changes_of
from memplan.fit.combination import largest_component, unchanged
from memplan.fit.policy import Estimator, Policy, profile_margin
from memplan.profiles import NamedProfile


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rung applied: an option per value that it lowers, and what comes of it."""

    options: tuple[Option, ...]
    workload: Workload
    estimate: Estimate
    fits: bool


def plan_declared(workload: Workload, policy: Policy, estimator: Estimator) -> Plan:
    """The first rung of the chosen profile that fits, or the one with the least memory when none does."""
    before = estimator(workload, policy.target)
    if policy.accepts(before):
        return unchanged(before, policy, feasible=True)
    ladder = _Ladder(workload, policy, estimator)
    chosen = policy.chosen_profile()
    step = ladder.step(chosen, policy.margin) if chosen else None
    if chosen is None or step is None:
        plan = unchanged(before, policy, feasible=False)
        others = () if chosen is None else tuple(ladder.alternatives(chosen))
        plan = replace(plan, blocking=largest_component(before), alternatives=others)
        return replace(plan, offer=_offer(plan) or _nothing_tunable(policy))
    plan = Plan(
        feasible=step.fits,
        harm=Harm.BEHAVIOUR,
        changes=changes_of(workload, step.options, ladder.measure, policy.target),
        before=before,
        after=step.estimate,
        margin=policy.margin,
        profile=chosen.name,
        alternatives=tuple(ladder.alternatives(chosen)),
    )
    return plan if step.fits else replace(plan, blocking=largest_component(step.estimate), offer=_offer(plan))


class _Ladder:
    """The rungs of every profile, applied to one workload."""

    def __init__(self, workload: Workload, policy: Policy, estimator: Estimator) -> None:
        self.workload = workload
        self.policy = policy
        self._estimator = estimator
        self._estimates: dict[Workload, Estimate] = {}

    def measure(self, workload: Workload) -> Estimate:
        """The estimate of a workload, made once."""
        if workload not in self._estimates:
            self._estimates[workload] = self._estimator(workload, self.policy.target)
        return self._estimates[workload]

    def step(self, profile: NamedProfile, margin: Bytes) -> Step | None:
        """The first rung that fits, else the one with the least memory; None if none lowers anything."""
        tried = []
        for rung in profile.rungs:
            options = tuple(self._lowered(profile, rung.items()))
            if not options:
                continue
            after = self.workload
            for option in options:
                for name, value in option.changes.items():
                    after = after.changed(name, value)
            estimate = self.measure(after)
            step = Step(
                options=options, workload=after, estimate=estimate, fits=self.policy.accepts(estimate, margin)
            )
            if step.fits:
                return step
            tried.append(step)
        return min(tried, key=lambda step: step.estimate.device.high, default=None)

    def alternatives(self, chosen: NamedProfile) -> Iterable[Alternative]:
        """What the other profiles would give, with their own margins."""
        for profile in self.policy.profiles:
            if profile.name == chosen.name:
                continue
            step = self.step(profile, profile_margin(profile, self.policy.target))
            if step is not None:
                yield Alternative(
                    name=profile.name,
                    changes=changes_of(self.workload, step.options, self.measure, self.policy.target),
                    harm=Harm.BEHAVIOUR,
                    feasible=step.fits,
                    after=step.estimate,
                    slowdown=1.0,
                    trade=self._trade(profile, step),
                )

    def _lowered(self, profile: NamedProfile, rung: Iterable[tuple[str, int]]) -> Iterable[Option]:
        assert isinstance(self.workload.model, DeclaredModel)
        now = dict(self.workload.model.values)
        for name, value in rung:
            present = now.get(name)
            if name in self.policy.tunable and isinstance(present, int) and value < present:
                yield Option(
                    changes={name: value},
                    harm=Harm.BEHAVIOUR,
                    reason=f"declared tunable; {profile.name} profile of {profile.gpu}",
                )

    def _trade(self, profile: NamedProfile, step: Step) -> str:
        limit = self.policy.target.limit
        free = round(100 * (limit - step.estimate.device.process) / limit)
        verdict = "" if step.fits else f", too little for its margin of {round(100 * profile.margin)} %"
        return f"{profile.summary.rstrip('.')}: {free} % free{verdict}"


def _nothing_tunable(policy: Policy) -> str:
    if not policy.tunable:
        return "declare values under `tunable:` and memplan may lower them"
    if policy.profile is None:
        return f"no named profile has rungs for {', '.join(policy.tunable)}"
    return f"the {policy.profile} profile has no lower value for {', '.join(policy.tunable)}"


def _offer(plan: Plan) -> str | None:
    """A profile that would fit where the chosen one does not."""
    fitting = next((other for other in plan.alternatives if other.feasible), None)
    return f"--profile {fitting.name} fits: {in_words(fitting.changes)}" if fitting else None
