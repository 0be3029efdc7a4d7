"""The table of families, against the folder and against what each module says of itself."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from memplan import families

SHARED = {"__init__", "config", "decoder", "unknown"}
"""Modules of the folder that are not a family."""


def test_every_family_of_the_folder_is_listed() -> None:
    folder = Path(families.__file__).parent
    found = {path.stem for path in folder.glob("*.py")} - SHARED
    assert {name for name in found if hasattr(import_module(f"memplan.families.{name}"), "DEFAULTS")} == set(
        families.FAMILIES
    )


@pytest.mark.parametrize("module", families.FAMILIES)
def test_a_family_covers_the_types_it_is_listed_with(module: str) -> None:
    family = import_module(f"memplan.families.{module}")
    assert set(families.FAMILIES[module]) == set(family.DEFAULTS)
    assert family.PROJECTIONS


def test_no_type_is_covered_twice() -> None:
    assert len(families.known()) == len(set(families.known()))
