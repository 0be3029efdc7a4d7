"""What to change so that a run fits, what each change costs, and what it saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from memplan.domain.bytes import Bytes
from memplan.domain.edit import Advice, Edit
from memplan.domain.estimate import Estimate
from memplan.domain.harm import Harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting of one lever: new values by native path (or declared name), and what it asks for.

    ``degree`` says how far a change of behaviour goes (a sequence cut in half: 1, to a quarter: 2): less goes
    before faster. ``requires`` names what the changed run needs and the present one may lack: a
    package, or free host RAM where it is not known how much there is.
    """

    changes: Mapping[str, Any]
    harm: Harm
    reason: str
    degree: int = 0
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One changed field (native path or declared name): before, after, harm, reason, bytes saved.

    ``saves`` is what it saves on top of those before it, None where only the whole was counted.
    ``slowdown`` is the modelled step time relative to that without this change, those before it made.
    ``requires`` names packages that the changed run needs.
    """

    field: str
    before: Any
    after: Any
    harm: Harm
    reason: str
    saves: Bytes | None
    slowdown: float = 1.0
    requires: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another plan worth knowing, and the trade it makes."""

    name: str
    changes: tuple[Change, ...]
    harm: Harm
    feasible: bool
    after: Estimate
    slowdown: float
    trade: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The chosen changes, before and after. An infeasible plan is a value: the closest one, and its block."""

    feasible: bool
    harm: Harm
    changes: tuple[Change, ...]
    before: Estimate
    after: Estimate
    margin: Bytes
    slowdown: float = 1.0
    profile: str | None = None
    edits: tuple[Edit, ...] = ()
    advice: tuple[Advice, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    blocking: str | None = None
    offer: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def requires(self) -> tuple[str, ...]:
        """Packages that the changed run needs and the present one may lack, sorted."""
        return tuple(sorted({name for change in self.changes for name in change.requires}))

    @property
    def by_hand(self) -> tuple[Advice, ...]:
        """What the files would have to say and cannot be made to: with any, none of the plan is written."""
        return tuple(item for item in self.advice if not item.outside)

    @property
    def outside(self) -> tuple[Advice, ...]:
        """What is set where the run is started, beside what the files say."""
        return tuple(item for item in self.advice if item.outside)
