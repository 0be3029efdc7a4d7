"""Findings as JUnit XML, which most CI servers show as test results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

from memplan.domain.finding import Finding, Level

NAME = "junit"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check(findings: Iterable[Finding]) -> str:
    """One test case per finding, failed when it is an error; one passed case when there is none."""
    found = list(findings)
    failures = sum(finding.level is Level.ERROR for finding in found)
    cases = [_case(finding) for finding in found] or ['    <testcase classname="memplan" name="fits"/>']
    counts = f'tests="{len(cases)}" failures="{failures}" errors="0"'
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f"<testsuites {counts}>",
        f'  <testsuite name="memplan" {counts}>',
        *cases,
        "  </testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines) + "\n"


def _case(finding: Finding) -> str:
    place = f"{finding.path}:{finding.line}"
    head = f"    <testcase classname={_attribute(place)} name={_attribute(finding.code)}"
    text = f"{place}: {finding.message}" + (f"\ntry: {finding.fix}" if finding.fix else "")
    body = escape(_NOT_XML.sub("?", text))
    if finding.level is Level.ERROR:
        message = _attribute(finding.message)
        return f"{head}>\n      <failure message={message}>{body}</failure>\n    </testcase>"
    return f"{head}>\n      <system-out>{body}</system-out>\n    </testcase>"


def _attribute(text: str) -> str:
    return quoteattr(_NOT_XML.sub("?", text), {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
