"""Every case file: what is read, what is written, and the two laws of a rewrite."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.errors import AmbiguousKeyError
from memplan.read import read, reread

from .cases import Case, all_cases

CASES = all_cases()


@pytest.fixture(params=CASES, ids=[case.name for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    found = request.param
    assert isinstance(found, Case)
    return found


def test_a_case_reads_writes_and_reads_again(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.file
    path.write_text(case.text, encoding="utf-8", newline="")
    reading = read(path)
    assert [(name, reading.workload.at(name)) for name, _ in case.workload] == case.workload

    changes = [(name, reading.workload.at(name), after) for name, after in case.changes]
    written, advice = edits(reading, changes)
    assert [item.field for item in advice] == case.advice
    assert all(item.message for item in advice)

    text = documents.apply(reading.document.source, written)
    assert text == case.output

    path.write_text(text, encoding="utf-8", newline="")
    again = reread(reading)
    planned = reading.workload
    for name, after in case.changes:
        if name not in case.advice:
            planned = planned.changed(name, after)
    assert again.workload == planned

    second, _ = edits(again, [change for change in changes if change[0] not in case.advice])
    assert documents.apply(again.document.source, second) == text


def test_case_files_exist_for_writing_dialects() -> None:
    assert {case.name.partition("/")[0] for case in CASES} >= {"axolotl", "native"}
    assert AmbiguousKeyError.exit_code == 2
