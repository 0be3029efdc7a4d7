"""The CUDA context of a GPU of this machine, from runs that were measured on it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from memplan.domain.bytes import Bytes
from memplan.domain.calibration import Calibration
from memplan.probe.record import Entry

LAST = 5
"""Runs that count: what a machine did long ago says less than what it did last."""


def of_runs(
    runs: Iterable[Entry], driver: str | None, torch: str | None, usable: Bytes
) -> Calibration | None:
    """The contexts of the last of a GPU's runs under this driver; None if nothing is known of any.

    Those of the installed ``torch`` count; if there are none, those of the newest release that has any. A
    context that would leave nothing of what is ``usable`` is none.
    """
    known = [
        (entry, context)
        for entry in runs
        if driver is not None
        and entry.driver == driver
        and (context := entry.measured["context"]) is not None
        and 0 < context < usable
    ]
    if not known:
        return None
    releases = {entry.words["torch"] for entry, _ in known}
    release = torch if torch in releases else max(releases, key=_order)
    last = [(entry, context) for entry, context in known if entry.words["torch"] == release][-LAST:]
    contexts = [context for _, context in last]
    return Calibration(
        runs=len(last),
        date=max(entry.date for entry, _ in last),
        least=min(contexts),
        most=max(contexts),
    )


def installed_torch() -> str | None:
    """The installed release of PyTorch, without a local part, asked without loading it."""
    try:
        return version("torch").partition("+")[0]
    except PackageNotFoundError:
        return None


def _order(release: str) -> tuple[tuple[int, str], ...]:
    parts = release.split(".")
    return tuple((int(part), "") if part.isascii() and part.isdecimal() else (-1, part) for part in parts)
