"""Every GPU of the profiles as a place for one run: where it fits as it is, where after changes, where not.

Plans are those of ``memplan.fit.fit``, each GPU by itself; they share what GPUs of one compute capability
have in common: the simulations. Two laws of such GPUs spare most of the work. A run that fits as it is on
one, without memory being given back on the way, does so on every other that its upper bound leaves room on.
And a run that no permitted change makes fit on one does not fit on another with less room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Any

from memplan.dialects.hardware import findings
from memplan.domain.architecture import Architecture
from memplan.domain.bytes import NOTHING, Bytes
from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.harm import Harm
from memplan.domain.plan import Change, Plan
from memplan.domain.target import Gpu, Target
from memplan.domain.workload import Workload
from memplan.estimate import sharing
from memplan.fit import fit, least
from memplan.fit.policy import Estimator, Floor, Policy, policy_for
from memplan.levers.cost import token_seconds

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading


class Standing(StrEnum):
    """What a GPU is to a run, the best first."""

    FITS = "fits"
    FITS_AFTER_CHANGES = "fits_after_changes"
    UNDECIDED = "undecided"
    DOES_NOT_FIT = "does_not_fit"
    LACKS = "lacks"


_ORDER = tuple(Standing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One GPU: what it is to the run, after which changes, and how fast.

    ``needs`` is the memory of the process there, ``headroom`` what it leaves of the limit, ``missing`` what
    the upper bound and the margin lack. ``by_hand`` counts changes that the config's own file cannot express.
    ``seconds`` are modelled, of a token; ``speed`` is that of the fastest GPU on which the run fits relative
    to them, 0.0 where the run does not fit. ``lacks`` says what the hardware has not got.
    """

    gpu: Gpu
    standing: Standing
    harm: Harm = Harm.EXACT
    changes: tuple[Change, ...] = ()
    needs: Bytes = NOTHING
    headroom: Bytes = NOTHING
    missing: Bytes = NOTHING
    by_hand: int = 0
    seconds: float = 0.0
    speed: float = 0.0
    lacks: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the run fits there, as it is or after changes."""
        return self.standing in (Standing.FITS, Standing.FITS_AFTER_CHANGES)


def rank(
    reading: Reading,
    gpus: Sequence[Gpu],
    *,
    ram: Bytes | None = None,
    policy: Mapping[str, Any] | None = None,
    advance: Callable[[], None] | None = None,
) -> tuple[Ranked, ...]:
    """Every GPU, those first on which the run fits as it is, and among equals the smallest, then the fastest.

    Args:
        reading: the config.
        gpus: the GPUs to look at.
        ram: host memory beside each of them, if that is to count.
        policy: further arguments of ``memplan.fit.fit``.
        advance: called after each GPU.

    Raises:
        MemplanError: as ``memplan.fit.fit``.
    """
    ranking = _Ranking(reading, dict(policy or {}))
    found: list[Ranked] = []
    targets = sorted((Target.of_gpu(gpu, ram=ram) for gpu in gpus), key=_capability)
    for _, alike in groupby(targets, key=_capability):
        for ranked in ranking.among(sorted(alike, key=_crowded)):
            found.append(ranked)
            if advance is not None:
                advance()
    fastest = min((each.seconds for each in found if each.fits and each.seconds), default=0.0)
    with_speed = [replace(each, speed=fastest / each.seconds if each.seconds else 0.0) for each in found]
    return tuple(sorted(with_speed, key=_place))


def _capability(target: Target) -> tuple[int, int]:
    return target.compute_capability


def _crowded(target: Target) -> tuple[int, str]:
    return target.context - target.limit, target.name


def _place(ranked: Ranked) -> tuple[Any, ...]:
    """What somebody who rents looks at: least harm, then the smallest card, then the fastest of its size."""
    gpu = ranked.gpu
    return (
        _ORDER.index(ranked.standing),
        ranked.harm,
        ranked.missing,
        gpu.capacity,
        ranked.seconds,
        gpu.name,
    )


class _Ranking:
    """One config on many GPUs; remembers what they have in common."""

    def __init__(self, reading: Reading, policy: dict[str, Any]) -> None:
        self._reading = reading
        self._policy = policy
        self._count: Estimator = sharing()
        self._floor: Floor = _remembered_floor()

    def among(self, targets: Sequence[Target]) -> Iterator[Ranked]:
        """GPUs of one compute capability, those with most room first."""
        roomy: Estimate | None = None
        refused: Plan | None = None
        for target in targets:
            policy = self._policy_on(target)
            lacks = tuple(item.message for item in findings(self._reading, target))
            if lacks:
                yield Ranked(gpu=_gpu(target), standing=Standing.LACKS, lacks=lacks)
            elif roomy is not None and (here := moved(roomy, target)) is not None and policy.accepts(here):
                yield self._ranked(policy, here, Standing.FITS)
            elif refused is not None and (here := moved(refused.after, target)) is not None:
                yield self._refused(policy, refused, here)
            else:
                plan = self._plan(target)
                if plan.feasible and not plan.changes and self._follows_laws(plan):
                    roomy = plan.after
                if not plan.feasible and self._follows_laws(plan):
                    refused = plan
                yield self._of_plan(policy, plan)

    def _policy_on(self, target: Target) -> Policy:
        given = {"profile": None, "margin": None, "allow": Harm.EXACT, **self._policy}
        return policy_for(self._reading, target, **{**given, "keep": tuple(given.get("keep", ()))})

    def _plan(self, target: Target) -> Plan:
        return fit(
            self._reading, target, estimator=self._count, floor=self._floor, brief=True, **self._policy
        )

    def _follows_laws(self, plan: Plan) -> bool:
        """Whether only room matters: margins of profiles, and the share PyTorch may take, are each GPU's."""
        workload = plan.after.workload
        simulated = isinstance(workload.model, Architecture) and workload.allocator.memory_fraction is None
        return simulated and plan.profile is None

    def _of_plan(self, policy: Policy, plan: Plan) -> Ranked:
        if not plan.feasible:
            return self._refused(policy, plan, plan.after)
        standing = Standing.FITS_AFTER_CHANGES if plan.changes else Standing.FITS
        return self._ranked(policy, plan.after, standing, plan)

    def _refused(self, policy: Policy, plan: Plan, here: Estimate) -> Ranked:
        undecided = here.verdict is Verdict.UNDECIDED
        ranked = self._ranked(policy, here, Standing.UNDECIDED if undecided else Standing.DOES_NOT_FIT, plan)
        return replace(ranked, missing=Bytes(max(0, policy.misses(here))), seconds=0.0)

    def _ranked(self, policy: Policy, here: Estimate, standing: Standing, plan: Plan | None = None) -> Ranked:
        return Ranked(
            gpu=_gpu(policy.target),
            standing=standing,
            harm=plan.harm if plan else Harm.EXACT,
            changes=plan.changes if plan else (),
            needs=here.device.process,
            headroom=here.headroom,
            by_hand=len(plan.advice) if plan else 0,
            seconds=token_seconds(here.workload, policy.target),
        )


def moved(estimate: Estimate, target: Target) -> Estimate | None:
    """An estimate on another GPU of the same compute capability: only the context and the limit differ.

    None where memory was given back on the way, which depends on the limit. The verdict is the GPU's; host
    RAM is the same.
    """
    device, origin = estimate.device, estimate.target
    if device.returned or origin is None:
        return None
    shift = target.context - origin.context
    low = device.low - _known(origin) + _known(target)
    there = replace(
        device,
        context=target.context,
        process=Bytes(device.process + shift),
        low=Bytes(max(0, low)),
        high=Bytes(device.high + shift),
        failure=None,
    )
    fits, dies = there.stays_within(target.limit), there.low > target.limit
    verdict = Verdict.FITS if fits else Verdict.DOES_NOT_FIT if dies else Verdict.UNDECIDED
    headroom = Bytes(target.limit - there.process)
    return replace(estimate, target=target, device=there, verdict=verdict, headroom=headroom)


def _known(target: Target) -> int:
    """What of a context the lower bound counts: nothing of one that is assumed."""
    return 0 if target.context_basis == "assumed" else target.context


def _gpu(target: Target) -> Gpu:
    assert target.gpu is not None
    return target.gpu


def _remembered_floor() -> Floor:
    """``least``, asked once per workload and compute capability."""

    made: dict[tuple[Workload, tuple[int, int]], int] = {}

    def floor(workload: Workload, target: Target) -> int:
        key = workload, target.compute_capability
        if key not in made:
            made[key] = least(workload, target)
        return made[key]

    return floor
