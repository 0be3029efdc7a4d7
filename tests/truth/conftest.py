"""The rows, compared once for all tests of this folder."""

from __future__ import annotations

import os

import pytest

from benchmarks import truth, truth_rows
from benchmarks.truth_comparison import Report
from benchmarks.truth_rows import Row


@pytest.fixture(scope="session")
def found() -> Report:
    return truth.found()


@pytest.fixture(scope="session")
def rows() -> list[Row]:
    """The rows as published, which are not part of the repository."""
    try:
        return truth_rows.load()
    except FileNotFoundError as error:
        if os.environ.get("CI", "").lower() not in ("", "0", "false"):
            pytest.fail(str(error))
        pytest.skip(str(error))
