"""A sweep for programs: as JSON, and as rows for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memplan.dialects.reading import Reading
from memplan.domain.estimate import Estimate
from memplan.domain.measurement import error
from memplan.reporters import csv
from memplan.sweep.boundary import Boundary, boundaries
from memplan.sweep.grid import Point, Ran, Setting, Sweep
from memplan.sweep.runs import amounts

HOST = ("host", "host_low", "host_high")
"""What of host memory does."""

AMOUNTS = ("process", "low", "high", "peak_allocated", "peak_reserved")
"""What of GPU memory stands in a row, in bytes."""

RUN = ("device", "predicted", "seen", "error", "not_run")
"""What is said of a run."""


def payload(reading: Reading, sweep: Sweep) -> dict[str, Any]:
    """``memplan.sweep/1``. A point's ``estimates`` are those of ``targets``, in order; none where refused."""
    return {
        "schema": "memplan.sweep/1",
        "source": str(reading.path),
        "dialect": reading.dialect,
        "axes": [
            {"name": axis.name, "field": axis.field, "values": [item.plain for item in axis.settings]}
            for axis in sweep.axes
        ],
        "targets": [
            {"name": item.name, "capacity": int(item.capacity), "usable": int(item.limit)}
            for item in sweep.targets
        ],
        "points": [_point(sweep, point) for point in sweep.points],
        **({"runs": _runs(sweep), "shown": list(sweep.shown)} if sweep.runs else {}),
        "boundaries": [_boundary(item) for item in boundaries(sweep)],
        "notes": list(sweep.notes),
        "warnings": list(reading.warnings),
    }


def table(sweep: Sweep) -> str:
    """Comma-separated rows: one per point and target, or per point where there is no target.

    What a run showed stands at the end of its rows.
    """
    columns = [*(axis.name for axis in sweep.axes), "gpu", *AMOUNTS, *HOST, "verdict", "refused"]
    if not sweep.runs:
        return csv.render(columns, (row for point in sweep.points for row in _rows(point)))
    rows = (
        [*row, *run.values()]
        for point, run in zip(sweep.points, (_run(sweep, run) for run in sweep.runs), strict=True)
        for row in _rows(point)
    )
    return csv.render([*columns, *RUN], rows)


def _rows(point: Point) -> Iterator[list[object]]:
    chosen = [item.plain for item in point.settings]
    if point.refused is not None:
        yield [*chosen, "", *("" for _ in (*AMOUNTS, *HOST)), "", point.refused]
    for found in point.estimates:
        amounts = _amounts(found)
        name = found.target.name if found.target else ""
        yield [*chosen, name, *amounts.values(), str(found.verdict or ""), ""]


def _amounts(found: Estimate) -> dict[str, int]:
    device = {name: int(getattr(found.device, name)) for name in AMOUNTS}
    host = (found.host.peak, found.host.low, found.host.high)
    return device | dict(zip(HOST, map(int, host), strict=True))


def _point(sweep: Sweep, point: Point) -> dict[str, Any]:
    return {
        "values": {axis.name: item.plain for axis, item in zip(sweep.axes, point.settings, strict=True)},
        "estimates": [
            {
                **_amounts(found),
                "peak_phase": str(found.device.peak_phase),
                "verdict": found.verdict and str(found.verdict),
                "headroom": int(found.headroom) if found.target else None,
            }
            for found in point.estimates
        ],
        "refused": point.refused,
    }


def _runs(sweep: Sweep) -> list[dict[str, Any]]:
    names = [axis.name for axis in sweep.axes]
    return [
        {
            "values": {name: item.plain for name, item in zip(names, run.settings, strict=True)},
            **_run(sweep, run),
        }
        for run in sweep.runs
    ]


def _run(sweep: Sweep, run: Ran) -> dict[str, Any]:
    """Device, bytes predicted and seen, error in percent, and why there was no run; null is absent."""
    if run.found is None:
        return {**dict.fromkeys(RUN), "not_run": run.reason}
    predicted, seen = amounts(sweep, run.found)
    percent = error(predicted, seen)
    found = (
        run.found.device,
        int(predicted),
        int(seen),
        None if percent is None else round(percent, 4),
        None,
    )
    return dict(zip(RUN, found, strict=True))


def _boundary(found: Boundary) -> dict[str, Any]:
    names = [axis.name for axis in found.others]
    return {
        "target": found.target.name,
        "along": found.along.name,
        "rows": [
            {
                "values": {name: item.plain for name, item in zip(names, row.others, strict=True)},
                "largest": _plain(row.largest),
                "possible": _plain(row.possible),
                **({} if row.exact is None else {"exact": row.exact}),
            }
            for row in found.rows
        ],
        **({} if found.said is None else {"rule": found.said.rule, "rule_says": found.said.value}),
    }


def _plain(setting: Setting | None) -> int | str | None:
    return None if setting is None else setting.plain
