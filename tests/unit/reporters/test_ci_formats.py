from __future__ import annotations

import json
from xml.etree import ElementTree

from memplan.domain.finding import Finding, Level
from memplan.reporters import github, junit, sarif
from tests.unit.reporters.samples import FINDINGS


def test_a_workflow_command_escapes_what_would_end_it() -> None:
    first = github.check(FINDINGS).splitlines()[0]
    assert first == (
        "::error file=case/a%2Cb%3Ac.yml,line=3,title=memplan MP001::"
        'does not fit: 100%25 <full> & more%0Asecond line%0Atry: set "x" to 1'
    )


def test_each_finding_is_one_workflow_command_of_its_level() -> None:
    lines = github.check(FINDINGS).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning", "::notice"]
    assert github.check(()) == ""


def test_sarif_has_one_result_per_finding_and_declares_its_rules() -> None:
    log = json.loads(sarif.check(FINDINGS))
    run = log["runs"][0]
    assert log["version"] == "2.1.0"
    assert [result["level"] for result in run["results"]] == ["error", "warning", "note"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert rules == {result["ruleId"] for result in run["results"]}
    place = run["results"][1]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "case/d%20e.yml"}, "region": {"startLine": 1}}


def test_sarif_of_no_findings_is_a_run_without_results() -> None:
    assert json.loads(sarif.check(()))["runs"][0]["results"] == []


def test_junit_counts_only_errors_as_failures() -> None:
    suite = ElementTree.fromstring(junit.check(FINDINGS))
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    failure = suite.find(".//failure")
    assert failure is not None
    assert failure.get("message") == "does not fit: 100% <full> & more\nsecond line"


def test_junit_of_no_findings_is_one_passed_case() -> None:
    suite = ElementTree.fromstring(junit.check(()))
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")


def test_junit_stays_xml_when_a_message_holds_control_characters() -> None:
    finding = Finding(
        path="a\x00b", line=1, code="MP004", level=Level.ERROR, message="bad \x1b[31m byte \ud800"
    )
    assert ElementTree.fromstring(junit.check((finding,))).get("failures") == "1"
