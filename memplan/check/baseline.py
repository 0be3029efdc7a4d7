"""Findings that were there before: listed in a file, they no longer fail the gate."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memplan.domain.errors import FieldError
from memplan.domain.finding import Finding, Level

if TYPE_CHECKING:
    from memplan.dialects.fields import Value

SCHEMA = "memplan.check/1"
_AMOUNT = re.compile(r"[0-9][0-9.,]*( ?[KMGT]?i?B\b)?")

Fingerprint = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """How often each known finding occurs, whatever its line and its amounts."""

    counts: Counter[Fingerprint]

    def demoted(self, findings: Iterable[Finding]) -> list[Finding]:
        """The findings with the known ones as notes; a known one covers as many as were recorded."""
        left = self.counts.copy()
        found = []
        for finding in findings:
            key = _fingerprint(finding.path, finding.code, finding.message)
            if left[key] > 0:
                left[key] -= 1
                finding = replace(finding, level=Level.NOTE)
            found.append(finding)
        return found


def known_findings(path: Path) -> Baseline:
    """Read a baseline: what ``memplan check --format json`` printed.

    Raises:
        DocumentError, FieldError: it is not such a report.
        FileAccessError: it cannot be read.
    """
    from memplan.dialects.fields import Value
    from memplan.documents import json
    from memplan.documents.source import Source

    source = Source.open(path)
    root = Value(source=source, key="", node=json.parse(source))
    entries = root.entries(("schema", "passed", "findings"))
    for key in ("schema", "findings"):
        if key not in entries:
            raise FieldError(
                f"{path} is not a baseline: it has no {key}",
                location=source.location(0),
                expected="what memplan check --format json prints",
            )
    entries["schema"].choice((SCHEMA,))
    return Baseline(counts=Counter(_read(item) for item in entries["findings"].items()))


def _read(value: Value) -> Fingerprint:
    entries = value.entries()
    for key in ("path", "code", "message"):
        if key not in entries:
            raise value.fail(f"has no {key}")
    return _fingerprint(entries["path"].word(), entries["code"].word(), entries["message"].word())


def _fingerprint(path: str, code: str, message: str) -> Fingerprint:
    """What stays the same when lines move and amounts shift a little."""
    return os.path.normpath(path), code, _AMOUNT.sub("#", message)
