"""Reports as JSON: the contract other programs rely on. Keys keep their order; amounts are whole bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from memplan.dialects import hardware
from memplan.domain.architecture import Architecture, DeclaredModel
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.estimate import Component, Estimate
from memplan.domain.finding import Finding
from memplan.domain.plan import Alternative, Change, Plan
from memplan.domain.target import Gpu
from memplan.domain.workload import Checkpointing, Workload
from memplan.reporters.remedies import remedies

if TYPE_CHECKING:
    from memplan.apply import Applied
    from memplan.dialects.reading import Origin, Reading
    from memplan.estimate.story import Held, Story
    from memplan.profiles import NamedProfile

NAME = "json"


def render(payload: dict[str, Any]) -> str:
    """One object, indented, in the order it was built."""
    return json.dumps(payload, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def estimate(reading: Reading, found: Estimate) -> dict[str, Any]:
    """``memplan.estimate/1``. Target, verdict and headroom are null when no target is known."""
    device = found.device
    return {
        "schema": "memplan.estimate/1",
        "source": str(reading.path),
        "dialect": reading.dialect,
        "workload": value(found.workload),
        "warnings": [*reading.warnings, *(found.target.notes if found.target else ())],
        "findings": [value(item) for item in hardware.every(reading, found.target, found.workload)],
        "device": {
            "peak_allocated": int(device.peak_allocated),
            "peak_reserved": int(device.peak_reserved),
            "context": int(device.context),
            "process": int(device.process),
            "low": int(device.low),
            "high": int(device.high),
            "peak_phase": str(device.peak_phase),
            "phases": {str(phase): int(peak) for phase, peak in device.phases},
            "components": _components(device.components),
            "gaps": _gaps(found),
            "returned": device.returned,
            "out_of_memory": _failure(found),
        },
        "host": {
            "peak": int(found.host.peak),
            "components": _components(found.host.components),
            "peak_phase": found.host.peak_phase,
            "phases": {phase: int(peak) for phase, peak in found.host.phases},
            "mapped": int(found.host.mapped),
            "low": int(found.host.low),
            "high": int(found.host.high),
        },
        "disk": {"bytes": int(found.disk), "components": _components(found.disk_parts)},
        "target": _target(found),
        "verdict": found.verdict and str(found.verdict),
        "headroom": int(found.headroom) if found.target else None,
    }


def plan(reading: Reading, made: Plan) -> dict[str, Any]:
    """``memplan.plan/1``. An infeasible plan carries the closest one in ``changes`` and ``after``."""
    return {
        "schema": "memplan.plan/1",
        "feasible": made.feasible,
        "harm": made.harm.label,
        "changes": [_change(item) for item in made.changes],
        "before": estimate(reading, made.before),
        "after": estimate(reading, made.after),
        "edits": _edits(made.edits),
        "alternatives": [_alternative(other) for other in made.alternatives],
        "advice": [
            {name: getattr(item, name) for name in ("field", "message", "path", "line", "outside")}
            for item in made.advice
        ],
        "margin": int(made.margin),
        "slowdown": round(made.slowdown, 4),
        "requires": list(made.requires),
        "profile": made.profile,
        "blocking": made.blocking,
        "offer": made.offer,
    }


def applied(done: Applied) -> dict[str, Any]:
    """``memplan.apply/1``: every rewritten file with its digests, and what is left to do."""
    return {
        "schema": "memplan.apply/1",
        "written": done.written,
        "files": [
            {
                "path": item.path,
                "old_sha256": item.old_sha256,
                "new_sha256": item.new_sha256,
                "backup": item.backup,
                "edits": _edits(item.edits),
                "diff": item.diff,
            }
            for item in done.files
        ],
        "notes": list(done.checklist.notes),
        "verify": done.checklist.verify,
    }


def check(passed: bool, findings: Iterable[Finding]) -> dict[str, Any]:
    """``memplan.check/1``."""
    return {
        "schema": "memplan.check/1",
        "passed": passed,
        "findings": [value(item) for item in findings],
    }


def explanation(
    reading: Reading, found: Estimate, component: str | None = None, story: Story | None = None
) -> dict[str, Any]:
    """``memplan.explain/1``: the components with their tensors, and the origin of every value.

    ``held`` says what the tensors alive at the peak wait for: ``until`` is null for what stays.
    """
    chosen = [part for part in found.device.components if component in (None, part.name)]
    return {
        "schema": "memplan.explain/1",
        "source": str(reading.path),
        "peak_phase": str(found.device.peak_phase),
        "components": [
            {
                "name": part.name,
                "bytes": int(part.bytes),
                "basis": str(part.basis),
                "parts": [
                    {"tag": item.tag, "count": item.count, "bytes": int(item.bytes)} for item in part.parts
                ],
            }
            for part in chosen
        ],
        "host": _components(found.host.components),
        "disk": _components(found.disk_parts),
        "origins": {name: _origin(origin) for name, origin in reading.origins.items()},
        "gaps": _gaps(found),
        "held": [_held(item) for item in (story.held if story else ()) if component in (None, item.tag[0])],
        "remedies": {
            part.name: [item.setting for item in remedies(part.name, found.workload, found.device.peak_phase)]
            for part in chosen
        },
    }


def gpus(known: Iterable[Gpu]) -> dict[str, Any]:
    """``memplan.gpus/1``: every fact about every GPU; bandwidth in bytes a second, dense TFLOPS."""
    return {"schema": "memplan.gpus/1", "gpus": [value(gpu) for gpu in known]}


def profiles(models: Iterable[str], named: Iterable[NamedProfile]) -> dict[str, Any]:
    """``memplan.profiles/1``: hub ids that can be planned offline, and the named profiles of GPUs."""
    return {"schema": "memplan.profiles/1", "models": list(models), "named": [value(item) for item in named]}


def value(found: Any) -> Any:
    """A noun of the domain as JSON: dataclasses as objects, names for enumerations and dtypes."""
    if isinstance(found, Checkpointing):
        return found.name
    if isinstance(found, Dtype):
        return found.label
    if isinstance(found, Enum):
        return str(found)
    if isinstance(found, Architecture):
        return _fields(found, without=("groups", "config")) | {"parameters": found.parameters}
    if isinstance(found, DeclaredModel):
        sizes = found.sizes()
        return {
            "tensors": [value(tensor) | {"bytes": int(sizes[tensor.name])} for tensor in found.tensors],
            "values": dict(found.values),
        }
    if isinstance(found, Mapping):
        return {str(key): value(item) for key, item in found.items()}
    if isinstance(found, Workload):
        return _fields(found, without=("adapting",))
    if is_dataclass(found):
        return _fields(found)
    if isinstance(found, tuple | list):
        return [value(item) for item in found]
    return found


def _fields(found: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    return {item.name: value(getattr(found, item.name)) for item in fields(found) if item.name not in without}


def _held(item: Held) -> dict[str, Any]:
    component, module, op, shape, dtype = item.tag
    release = item.release
    return {
        "component": component,
        "module": module,
        "op": op,
        "shape": list(shape),
        "dtype": dtype.label,
        "count": item.count,
        "bytes": int(item.bytes),
        "until": release and {"phase": str(release.phase), "module": release.scope, "op": release.op},
        "next_step": item.next_step,
    }


def _edits(edits: Iterable[Edit]) -> list[dict[str, Any]]:
    return [
        {"path": edit.path, "line": edit.line, "before": edit.before, "after": edit.after} for edit in edits
    ]


def _failure(found: Estimate) -> dict[str, Any] | None:
    """The allocation the run dies of on its target, and PyTorch's message; null when it does not."""
    failure = found.device.failure
    if failure is None:
        return None
    return {
        "tried": int(failure.tried),
        "free": int(failure.free),
        "allocated": int(failure.allocated),
        "cached": int(failure.cached),
        "phase": str(failure.phase),
        "tensor": failure.tensor,
        "message": failure.message,
    }


def _gaps(found: Estimate) -> list[dict[str, Any]]:
    return [
        {"reason": gap.reason, "low": int(gap.low), "high": int(gap.high), "unbounded": gap.unbounded}
        for gap in found.device.gaps
    ]


def _origin(origin: Origin) -> dict[str, Any]:
    place = origin.location
    return {
        "how": origin.how,
        "path": place.path if place else None,
        "line": place.line if place else None,
        "note": origin.note,
    }


def _components(components: tuple[Component, ...]) -> list[dict[str, Any]]:
    return [{"name": part.name, "bytes": int(part.bytes), "basis": str(part.basis)} for part in components]


def _target(found: Estimate) -> dict[str, Any] | None:
    target = found.target
    if target is None:
        return None
    seen = target.calibration or target.overhead
    calibrated = seen and {"runs": seen.runs, "date": seen.date}
    sizes = {"capacity": int(target.capacity), "usable": int(target.limit)}
    return {"name": target.name, **sizes, "calibrated": calibrated}


def _change(item: Change) -> dict[str, Any]:
    return {
        "field": item.field,
        "before": value(item.before),
        "after": value(item.after),
        "harm": item.harm.label,
        "reason": item.reason,
        "saves": None if item.saves is None else int(item.saves),
        "slowdown": round(item.slowdown, 4),
        "requires": list(item.requires),
    }


def _alternative(other: Alternative) -> dict[str, Any]:
    device = other.after.device
    return {
        "name": other.name,
        "feasible": other.feasible,
        "harm": other.harm.label,
        "changes": [_change(item) for item in other.changes],
        "peak_allocated": int(device.peak_allocated),
        "process": int(other.after.needed),
        "headroom": int(other.after.headroom) if other.after.target else None,
        "slowdown": round(other.slowdown, 4),
        "trade": other.trade,
    }
