"""The reference data that lies beside the checkout, for tests that need it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Real configs of real projects."""
    folder = Path(os.environ.get("MEMPLAN_SHARED", ROOT / "../shared")) / "corpus"
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI needs the reference data at {folder}")
        pytest.skip(f"the reference data is not at {folder}; set MEMPLAN_SHARED")
    return folder


@pytest.fixture(scope="session")
def axolotl_examples(corpus: Path) -> list[Path]:
    """Every example config of the axolotl project."""
    return sorted((corpus / "axolotl-ai-cloud+axolotl" / "examples").rglob("*.y*ml"))
