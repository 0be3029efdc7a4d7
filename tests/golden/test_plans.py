"""What is planned for runs as people have them, on five GPUs: read, and found sensible, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.plan_table import CASES, GOLDEN, paragraph


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_plans_are_those_that_were_found_sensible(case: Path) -> None:
    paragraphs = {text.split("\n", 1)[0]: text for text in GOLDEN.read_text(encoding="utf-8").split("\n\n")}
    assert paragraph(case).strip() == paragraphs[case.stem].strip()
