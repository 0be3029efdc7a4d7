"""The table of RAM and context in ``examples/README.md`` is what estimates say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Verdict
from memplan.domain.target import Target
from memplan.estimate import estimate
from memplan.mechanisms.context.ram import tokens_for
from memplan.read import read

ROOT = Path(__file__).resolve().parents[3]
MODEL = ("layers=6", "heads=8", "hidden=512", "vocab=50000", "window=0")
COLUMNS: tuple[tuple[str, ...], ...] = (
    ("reading=none",),
    ("reading=none", "interval=1"),
    ("training=false", "chunk=2048"),
    ("training=false", "chunk=2048", "cache=mapped"),
)


def rows() -> list[list[int]]:
    """Numbers of the table: RAM in GiB, what the policy says, and a column for each kind of run."""
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| (\d+) \|" + r" ([\d,]+) \|" * 5 + "$", text, re.MULTILINE)
    return [[int(number.replace(",", "")) for number in row] for row in found]


def fits(settings: tuple[str, ...], context: int, ram: int) -> bool:
    reading = read(ROOT / "examples" / "large-context", overrides=(*MODEL, *settings, f"context={context}"))
    return estimate(reading.workload, Target.of_host(Bytes(ram))).verdict is Verdict.FITS


def test_the_table_has_a_row_for_every_step_of_the_policy() -> None:
    assert [(gib, says) for gib, says, *_ in rows()] == [
        (gib, tokens_for(gib * 2**30)) for gib in (8, 16, 32, 64, 128)
    ]


@pytest.mark.parametrize("column", range(len(COLUMNS)), ids=lambda column: " ".join(COLUMNS[column]))
def test_every_context_of_the_table_fits_and_one_token_more_does_not(column: int) -> None:
    for gib, _, *largest in rows():
        assert fits(COLUMNS[column], largest[column], gib * 2**30)
        assert not fits(COLUMNS[column], largest[column] + 1, gib * 2**30)
