"""The corpus of real configs, which lies beside the checkout."""

from __future__ import annotations

import os

import pytest

from tests.corpus.outcomes import CORPUS


@pytest.fixture(scope="session", autouse=True)
def corpus() -> None:
    """Skips every test here where there is no corpus, except in CI."""
    if CORPUS.is_dir():
        return
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(f"CI needs the corpus at {CORPUS}")
    pytest.skip(f"there is no corpus at {CORPUS}; set MEMPLAN_SHARED")
