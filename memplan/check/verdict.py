"""One config on one target: does it fit, and can the GPU do what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import Location
from memplan.domain.estimate import Component, Estimate, HostMemory, Verdict
from memplan.domain.finding import Finding, Level
from memplan.domain.plan import Plan
from memplan.domain.target import Target
from memplan.domain.wording import in_words
from memplan.domain.workload import Workload

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading

Estimator = Callable[[Workload, Target | None], Estimate]
"""What counts the bytes of a workload on a target."""


class Planner(Protocol):
    """What says how to mend a config that does not fit: ``memplan.fit.fit``."""

    def __call__(self, reading: Reading, target: Target, *, margin: str | Bytes | None = None) -> Plan:
        """A plan for the config; without a margin, with the one it asks for itself."""


_SIZED_BY = {
    "activations": ("batch.micro", "sequence.length", "checkpointing"),
    "logits_and_loss": ("batch.micro", "sequence.length"),
    "temporaries": ("batch.micro", "sequence.length"),
    "kv_cache": ("generate.prompt", "batch.micro"),
    "adapter": ("adapter.rank", "adapter"),
    "optimizer_state": ("optimizer.name", "adapter"),
    "gradients": ("adapter",),
}
"""The fields that size a component of a language model, most telling first; else it is the model."""

_HELD_BY = {
    "loader_workers": ("host.workers",),
    "batches": ("host.prefetch", "batch.micro"),
    "pinned_batches": ("host.prefetch", "batch.micro"),
    "offloaded_activations": ("activation_offload", "checkpointing"),
    "paged_optimizer_states": ("optimizer.name",),
    "offloaded_optimizer": ("world.zero.optimizer",),
    "offloaded_parameters": ("world.zero.parameters",),
    "evaluation_logits": ("evaluation",),
    "checkpoint_in_saving": ("saving.kept",),
}
"""The same for components of host memory."""


def judged(
    reading: Reading, target: Target, margin: Bytes, planner: Planner | None, estimator: Estimator
) -> Iterator[Finding]:
    """Findings MP005, MP001 and MP003 of a config, worst first."""
    from memplan.dialects.hardware import findings

    yield from findings(reading, target)
    estimate = estimator(reading.workload, target)
    room = Bytes(target.limit - margin)
    fits = estimate.device.stays_within(room)
    if estimate.device.low > room:
        yield _too_large(reading, target, margin, estimate, planner)
    elif not fits:
        yield _undecided(reading, target, room, estimate)
    memory = room if target.host_only else target.ram
    if memory is not None and estimate.host.high > memory:
        fix = _mending(reading, target, margin, planner) if fits else None
        yield _short_of_ram(reading, memory, estimate.host, fix)


def _too_large(
    reading: Reading, target: Target, margin: Bytes, estimate: Estimate, planner: Planner | None
) -> Finding:
    device = estimate.device
    largest = _largest(estimate)
    missing = Bytes(device.process + margin - target.limit)
    free = f" with {margin.rounded()} kept free" if margin else ""
    most = f"; most of it is {largest.name}, {largest.bytes.rounded()}" if largest else ""
    return _finding(
        reading,
        _fields(reading, largest),
        "MP001",
        f"needs {device.process.rounded()} of {target.name}'s {target.limit.rounded()}{free}: "
        f"{missing.rounded()} too much{most}",
        _mending(reading, target, margin, planner),
    )


def _undecided(reading: Reading, target: Target, room: Bytes, estimate: Estimate) -> Finding:
    device = estimate.device
    reasons = "; ".join(dict.fromkeys(gap.reason for gap in device.gaps))
    because = f" because of what is not modelled: {reasons}" if reasons else ""
    return _finding(
        reading,
        _fields(reading, _largest(estimate)),
        "MP003",
        f"between {device.low.rounded()} and {device.high.rounded()} against {room.rounded()} "
        f"on {target.name} cannot be decided{because}",
        f"measure it with: memplan smoke {reading.path}",
        Level.WARNING,
    )


def _short_of_ram(reading: Reading, ram: Bytes, host: HostMemory, fix: str | None) -> Finding:
    """Host memory that is too little for sure, or may be."""
    certain = host.verdict(ram) is Verdict.DOES_NOT_FIT
    largest = host.largest()
    return _finding(
        reading,
        _HELD_BY.get(largest.name, reading.tunable),
        "MP001" if certain else "MP003",
        f"{host.shortage(ram)}; most of it is {largest.name}, {largest.bytes.rounded()}",
        fix,
        Level.ERROR if certain else Level.WARNING,
    )


def _mending(reading: Reading, target: Target, margin: Bytes, planner: Planner | None) -> str | None:
    """The plan in one line; what blocks one when nothing allowed is enough."""
    if planner is None:
        return f"memplan fit {reading.path} {target.option}"
    plan = planner(reading, target, margin=margin or None)
    if plan.feasible:
        return f"{in_words(plan.changes)} (memplan apply {reading.path} {target.option})"
    return plan.offer or f"no allowed change is enough: {plan.blocking} alone is too large"


def _largest(estimate: Estimate) -> Component | None:
    return max(estimate.device.components, key=lambda part: part.bytes, default=None)


def _fields(reading: Reading, largest: Component | None) -> tuple[str, ...]:
    """The fields that decide the size of a component, most telling first."""
    model = reading.workload.model
    if largest is None:
        return ()
    if not isinstance(model, DeclaredModel):
        return (*_SIZED_BY.get(largest.name, ()), "model")
    values = dict(model.values)
    tensor = next((tensor for tensor in model.tensors if tensor.name == largest.name), None)
    if tensor is None:
        return ()
    names = {side for side in tensor.shape if isinstance(side, str)} | {name for name, _ in tensor.per}
    return tuple(sorted(names, key=lambda name: (name not in reading.tunable, -int(values[name]), name)))


def _finding(
    reading: Reading,
    fields: tuple[str, ...],
    code: str,
    message: str,
    fix: str | None,
    level: Level = Level.ERROR,
) -> Finding:
    place = _place(reading, fields)
    return Finding(path=place.path, line=place.line, code=code, level=level, message=message, fix=fix)


def _place(reading: Reading, fields: tuple[str, ...]) -> Location:
    """Where the first of these fields that is written anywhere stands; else the head of the config."""
    for field in (*fields, "model"):
        origin = reading.origins.get(field)
        if origin is not None and origin.location is not None:
            return origin.location
    return Location(path=reading.document.source.path, line=1)
