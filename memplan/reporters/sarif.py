"""Findings as SARIF 2.1.0, the format that code-scanning services take."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from memplan import __version__
from memplan.domain.finding import Finding

NAME = "sarif"

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def check(findings: Iterable[Finding]) -> str:
    """One run with one result per finding. SARIF's levels have the names of ours."""
    found = list(findings)
    rules = [{"id": code} for code in sorted({finding.code for finding in found})]
    driver = {"name": "memplan", "version": __version__, "rules": rules}
    run = {"tool": {"driver": driver}, "results": [_result(finding) for finding in found]}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _result(finding: Finding) -> dict[str, Any]:
    message = f"{finding.message}\nTry: {finding.fix}" if finding.fix else finding.message
    location = {
        "artifactLocation": {"uri": _uri(finding.path)},
        "region": {"startLine": max(1, finding.line)},
    }
    return {
        "ruleId": finding.code,
        "level": str(finding.level),
        "message": {"text": message},
        "locations": [{"physicalLocation": location}],
    }


def _uri(path: str) -> str:
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix())
