"""How memory changes with a few values: every combination estimated on every target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from memplan.dialects.context import beyond
from memplan.dialects.overrides import override
from memplan.domain.errors import FieldError, MemplanError
from memplan.domain.estimate import Estimate
from memplan.domain.target import Target
from memplan.domain.workload import Batch, Task, Workload
from memplan.estimate import estimates
from memplan.sweep.axes import OPTION
from memplan.sweep.dimensions import MODEL, resized
from memplan.sweep.exact import limits
from memplan.sweep.grid import Axis, Point, Ran, Setting, Sweep, combinations
from memplan.sweep.runs import Measure, known

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

__all__ = ["GLOBAL_BATCH", "HELD", "sweep"]

GLOBAL_BATCH = "batch.global"
"""Sequences per optimizer step: micro-batch × accumulation × GPUs."""

HELD = (GLOBAL_BATCH,)
"""What a sweep can be asked to keep."""

_WORLD = "world.data_parallel"


def sweep(
    reading: Reading,
    axes: Sequence[Axis],
    targets: Sequence[Target] = (),
    *,
    hold: Sequence[str] = (),
    exact: bool = False,
    advance: Callable[[], None] | None = None,
    measure: Measure | None = None,
    shown: Sequence[str] = (),
) -> Sweep:
    """Estimate every combination of the axes' settings on every target.

    Args:
        reading: the config that is varied.
        axes: what varies; ``axes.parse`` reads them.
        targets: GPUs to judge by; none gives figures without verdicts.
        hold: what stays as it is (some of ``HELD``): with ``batch.global`` accumulation follows.
        exact: whether to find the largest value that fits between the settings too.
        advance: called after every point.
        measure: what runs a combination, to have what was seen beside what was predicted.
        shown: components of these runs whose sum is looked at; none is all there is at the peak.

    Raises:
        FieldError: nothing by the name in ``hold`` can be kept, or it is varied itself.
        UnknownNameError: no run has a component that is to be shown.
    """
    axes = tuple(axes)
    _check_held(axes, hold)
    run = _Run(reading=reading, axes=axes, targets=tuple(targets), hold=tuple(hold))
    points, runs = [], []
    for settings in combinations(axes):
        points.append(run.point(settings))
        if measure is not None:
            runs.append(run.ran(points[-1], measure))
        if advance is not None:
            advance()
    notes = (*_notes(reading.workload, axes, hold), *_beyond(reading, points))
    found = Sweep(
        axes=axes,
        targets=tuple(targets),
        points=tuple(points),
        notes=notes,
        runs=tuple(runs),
        shown=known(runs, shown),
    )
    return replace(found, limits=tuple(limits(found, run.point))) if exact else found


@dataclass(slots=True, kw_only=True)
class _Run:
    """A sweep under way, with the configs by number of GPUs and the estimates that were made."""

    reading: Reading
    axes: tuple[Axis, ...]
    targets: tuple[Target, ...]
    hold: tuple[str, ...]
    worlds: dict[str, Workload] = field(default_factory=dict)
    made: dict[Workload, tuple[Estimate, ...]] = field(default_factory=dict)

    def point(self, settings: tuple[Setting, ...]) -> Point:
        """The estimates of a combination, or why it is refused."""
        try:
            workload = self._workload(settings)
            if workload not in self.made:
                self.made[workload] = estimates(workload, self.targets or (None,))
            return Point(settings=settings, estimates=self.made[workload])
        except MemplanError as error:
            return Point(settings=settings, refused=_reason(error))

    def ran(self, point: Point, measure: Measure) -> Ran:
        """What a run of the combination shows, or why there is none."""
        if point.refused is not None:
            return Ran(settings=point.settings, reason=point.refused)
        try:
            return Ran(settings=point.settings, found=measure(self._workload(point.settings)))
        except MemplanError as error:
            return Ran(settings=point.settings, reason=_reason(error))

    def _workload(self, settings: tuple[Setting, ...]) -> Workload:
        chosen = list(zip(self.axes, settings, strict=True))
        count = next((item.text for axis, item in chosen if axis.field == _WORLD), None)
        workload = self.reading.workload if count is None else self._over(count)
        for axis, setting in chosen:
            if axis.field != _WORLD:
                workload = _set(workload, axis, setting)
        return _held(workload, _global_batch(self.reading.workload)) if self.hold else workload

    def _over(self, count: str) -> Workload:
        """What the config says over another number of GPUs: some batches follow from it."""
        from memplan.read import read

        if count not in self.worlds:
            self.worlds[count] = read(
                self.reading.path,
                dialect=self.reading.dialect,
                overrides=(*self.reading.overrides, f"{_WORLD}={count}"),
                model=self.reading.given.model,
                beside=self.reading.given.beside,
            ).workload
        return self.worlds[count]


def _reason(error: MemplanError) -> str:
    return f"{error.message}; expected {error.expected}" if error.expected else error.message


def _set(workload: Workload, axis: Axis, setting: Setting) -> Workload:
    if axis.field.startswith(MODEL):
        assert setting.number is not None
        return resized(workload, axis.field.removeprefix(MODEL), setting.number)
    field, value = override(workload, f"{axis.field}={setting.text}", OPTION)
    return workload.changed(field, value)


def _global_batch(workload: Workload) -> int:
    return workload.batch.micro * workload.batch.accumulation * workload.world.data_parallel


def _held(workload: Workload, total: int) -> Workload:
    """The workload with as much accumulation as makes the global batch what it was.

    Raises:
        FieldError: no whole number does.
    """
    step = workload.batch.micro * workload.world.data_parallel
    if total % step:
        gpus = workload.world.data_parallel
        over = f" on {gpus} GPUs" if gpus > 1 else ""
        raise FieldError(
            f"micro-batches of {workload.batch.micro}{over} do not make a global batch of {total}"
        )
    return replace(workload, batch=Batch(micro=workload.batch.micro, accumulation=total // step))


def _check_held(axes: tuple[Axis, ...], hold: Sequence[str]) -> None:
    for name in hold:
        if name not in HELD:
            raise FieldError(f"--hold {name}: is nothing that can be kept", expected=", ".join(HELD))
        if any(axis.field == "batch.accumulation" for axis in axes):
            raise FieldError(
                f"--hold {name}: accumulation is varied itself", hint="leave out one of the two options"
            )


def _beyond(reading: Reading, points: Sequence[Point]) -> tuple[str, ...]:
    """That the longest sequences have more tokens than the model has positions."""
    longest = max(
        (point.estimates[0].workload for point in points if point.estimates),
        key=lambda workload: workload.sequence.length,
        default=reading.workload,
    )
    if longest.sequence.length <= reading.workload.sequence.length:
        return ()
    found = beyond(replace(reading, workload=longest))
    return tuple(f"At the longest, {item.message}." for item in found)


def _notes(workload: Workload, axes: tuple[Axis, ...], hold: Sequence[str]) -> tuple[str, ...]:
    """What happens to the global batch, where it is not what a reader expects."""
    varied = {axis.field for axis in axes}
    if workload.task is not Task.TRAIN or not varied & {"batch.micro", _WORLD}:
        return ()
    if "batch.accumulation" in varied:
        return ()
    if hold:
        return (f"The global batch stays {_global_batch(workload)}: accumulation follows.",)
    if "batch.micro" not in varied:
        return ()
    stays = (
        f"Accumulation stays {workload.batch.accumulation}, so the global batch grows with the micro-batch"
    )
    return (f"{stays}; --hold {GLOBAL_BATCH} keeps it.",)
