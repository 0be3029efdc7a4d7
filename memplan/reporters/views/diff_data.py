"""A comparison of two configs for programs."""

from __future__ import annotations

from typing import Any

from memplan.dialects.schema import spelled
from memplan.diff import Diff, Share, Side
from memplan.diff.differences import Difference
from memplan.reporters import json
from memplan.reporters.views.diff import place


def payload(found: Diff) -> dict[str, Any]:
    """``memplan.diff/1``. ``changes`` have the bytes that settings add, in order; they sum to ``total``."""
    old, new = found.old, found.new
    return {
        "schema": "memplan.diff/1",
        "total": {
            "process": new.device.process - old.device.process,
            "allocated": new.device.peak_allocated - old.device.peak_allocated,
            "host": new.host.peak - old.host.peak,
            "disk": new.disk - old.disk,
        },
        "changes": [_share(found, part) for part in found.shares],
        "before": _side(found.before) | {"estimate": json.estimate(found.before.reading, old)},
        "after": _side(found.after) | {"estimate": json.estimate(found.after.reading, new)},
    }


def _side(side: Side) -> dict[str, Any]:
    return {"label": side.label, "revision": side.revision}


def _share(found: Diff, part: Share) -> dict[str, Any]:
    return {
        "fields": [_difference(found, item) for item in part.differences],
        "reason": part.reason or None,
        "process": part.process,
        "allocated": part.allocated,
        "host": part.host,
        "disk": part.disk,
    }


def _difference(found: Diff, item: Difference) -> dict[str, Any]:
    return {
        "field": spelled(item.field),
        "before": json.value(item.before),
        "after": json.value(item.after),
        "notes": list(item.notes),
        "places": [place(side, item.field) or None for side in (found.before, found.after)],
    }
