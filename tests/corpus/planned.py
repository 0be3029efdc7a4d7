"""One real run on one GPU: the plan, the rewrite of a copy, what is read from it then, and the laws of it."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType

from memplan import profiles
from memplan.apply import apply
from memplan.apply.undo import undo
from memplan.dialects.reading import Reading
from memplan.domain.architecture import Architecture
from memplan.domain.errors import MemplanError
from memplan.domain.estimate import Verdict
from memplan.domain.harm import Harm
from memplan.domain.plan import Plan
from memplan.domain.target import Target
from memplan.domain.wording import worded
from memplan.domain.workload import Workload
from memplan.estimate import estimate
from memplan.fit import fit
from memplan.read import read
from tests.corpus.outcomes import CORPUS, MODEL

GPUS = ("gtx1650", "rtx3090", "a100-80gb")

PATIENCE = 12.0
"""Seconds of CPU after which a plan is given up."""

NO_RUNS = ("hf_config", "peft_adapter", "manifest")
"""Dialects whose files describe no run of their own."""

KEPT = ("sequence", "precision", "adapter", "quantization", "task", "model", "causal_mask", "framework")
"""What a plan that does no harm leaves as it is, beside the sequences of a step."""


_NUMBER = re.compile(r"\b[0-9][0-9,._]*")


class Kind(StrEnum):
    """How a plan ends."""

    FITS = "fits as it is"
    APPLIED = "fits after exact changes, applied"
    ENVIRONMENT = "fits after exact changes, one for the environment"
    BY_HAND = "fits after exact changes, some by hand"
    BLOCKED = "does not fit"
    UNDECIDED = "cannot be decided"
    SLOW = "given up"
    DEFECT = "a defect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What became of one run on one GPU, and the CPU time it took; ``detail`` says why."""

    name: str
    dialect: str
    gpu: str
    kind: Kind
    detail: str
    seconds: float


class TooLongError(Exception):
    """A plan took more time than it is given."""


def endings(name: str, gpus: tuple[str, ...] = GPUS) -> tuple[Ending, ...]:
    """A file of the corpus on every GPU; nothing for one that describes no run that is understood."""
    path = CORPUS / name
    given = None
    try:
        try:
            reading = read(path)
        except MemplanError:
            given = MODEL
            reading = read(path, model=given)
    except MemplanError:
        return ()
    if reading.dialect in NO_RUNS or not isinstance(reading.workload.model, Architecture):
        return ()
    with tempfile.TemporaryDirectory() as folder:
        for source in reading.sources:
            copy = Path(folder) / Path(source).relative_to(CORPUS)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        place = Path(folder) / name
        return tuple(_ending(name, place, given, reading.workload, gpu) for gpu in gpus)


def _ending(name: str, path: Path, model: str | None, expected: Workload, gpu: str) -> Ending:
    started = time.process_time()
    dialect = ""
    try:
        reading = read(path, model=model)
        dialect = reading.dialect
        assert reading.workload == expected, "a copy of its files reads otherwise"
        with _limit(PATIENCE):
            kind, detail = _outcome(reading, profiles.target(gpu))
    except TooLongError:
        kind, detail = Kind.SLOW, f"after {PATIENCE:.0f} s"
    except Exception as error:
        kind, detail = Kind.DEFECT, f"{type(error).__name__}: {error}".split("\n")[0]
    seconds = time.process_time() - started
    return Ending(name=name, dialect=dialect, gpu=gpu, kind=kind, detail=detail, seconds=seconds)


def _outcome(reading: Reading, target: Target) -> tuple[Kind, str]:
    plan = fit(reading, target, brief=True)
    if not plan.feasible:
        return _unfitting(plan)
    check_harmless(reading.workload, plan)
    fields = ", ".join(sorted({change.field for change in plan.changes}))
    if not plan.changes:
        return Kind.FITS, ""
    if plan.by_hand:
        by_hand = ", ".join(sorted({advice.field for advice in plan.by_hand}))
        return Kind.BY_HAND, f"{by_hand}, of {fields}"
    check_applied(reading, plan, target)
    return (Kind.ENVIRONMENT if plan.outside else Kind.APPLIED), fields


def _unfitting(plan: Plan) -> tuple[Kind, str]:
    if plan.after.verdict is Verdict.UNDECIDED:
        return Kind.UNDECIDED, _widest(plan)
    assert plan.blocking, "nothing says what blocks it"
    return Kind.BLOCKED, plan.blocking


def _widest(plan: Plan) -> str:
    """What widens the bounds most, without what belongs to one file alone."""
    gap = max(plan.after.device.gaps, key=lambda gap: (gap.unbounded, gap.high, gap.low), default=None)
    if gap is None:
        return "memory of the host"
    return _NUMBER.sub("N", re.sub(r"^\S+:\d+: ", "", gap.reason))


def check_harmless(before: Workload, plan: Plan) -> None:
    """A plan does no harm: the same experiment, within what the card holds."""
    after = plan.after.workload
    assert plan.harm is Harm.EXACT, f"harm {plan.harm.label}"
    for field in KEPT:
        assert getattr(after, field) == getattr(before, field), f"{field} is another"
    assert _sequences(after) == _sequences(before), "a step has another number of sequences"
    assert plan.after.headroom >= plan.margin, "the plan does not fit"


def _sequences(workload: Workload) -> int:
    return workload.batch.micro * workload.batch.accumulation * workload.world.data_parallel


def check_applied(reading: Reading, plan: Plan, target: Target) -> None:
    """Written, it reads as planned and fits; a second plan changes nothing, and an undo takes it all back.

    What belongs to the environment of the run is said when it is read again, as it is to ``memplan check``.
    """
    before = {path: Path(path).read_bytes() for path in reading.sources}
    applied = apply(reading, plan, backup=True)
    assert applied.written is bool(plan.edits), "something else than its edits was written"
    told = [f"{item.field}={worded(plan.after.workload.at(item.field))}" for item in plan.outside]
    again = read(reading.path, model=reading.given.model, overrides=told)
    assert again.workload == plan.after.workload, "it reads otherwise than planned"
    found = estimate(again.workload, target)
    assert found.device.stays_within(target.limit - plan.margin), "what was written does not fit"
    second = fit(again, target, brief=True)
    assert second.feasible, "a second plan does not fit"
    assert not second.changes, "a second plan changes something"
    if applied.written:
        undo(reading.path)
    assert {path: Path(path).read_bytes() for path in reading.sources} == before, "an undo leaves a trace"


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TooLongError

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
