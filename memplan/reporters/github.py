"""Findings as GitHub Actions workflow commands, which annotate the lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from memplan.domain.finding import Finding, Level

NAME = "github"

_COMMANDS = {Level.ERROR: "error", Level.WARNING: "warning", Level.NOTE: "notice"}
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = _DATA | {":": "%3A", ",": "%2C"}


def check(findings: Iterable[Finding]) -> str:
    """One workflow command per finding; nothing at all when there is none."""
    return "".join(_command(finding) for finding in findings)


def _command(finding: Finding) -> str:
    message = f"{finding.message}\ntry: {finding.fix}" if finding.fix else finding.message
    path, title = _escaped(finding.path, _PROPERTY), _escaped(f"memplan {finding.code}", _PROPERTY)
    place = f"file={path},line={finding.line},title={title}"
    return f"::{_COMMANDS[finding.level]} {place}::{_escaped(message, _DATA)}\n"


def _escaped(text: str, codes: Mapping[str, str]) -> str:
    return "".join(codes.get(character, character) for character in text)
