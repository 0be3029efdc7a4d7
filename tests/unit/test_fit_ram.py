"""A plan has to fit the host's RAM too, where that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.domain.bytes import Bytes
from memplan.domain.target import Target
from memplan.fit import fit
from memplan.read import read

TEXT = "memplan: 1\nmodel: {ref: HuggingFaceTB/SmolLM2-135M}\nsequence: {length: 256}\n"


@pytest.mark.parametrize(("ram", "feasible"), [(None, True), ("64GiB", True), ("1GiB", False)])
def test_a_plan_is_feasible_only_if_ram_is_enough(tmp_path: Path, ram: str | None, feasible: bool) -> None:
    path = tmp_path / "run.yml"
    path.write_text(TEXT)
    target = Target.of_amount(Bytes.parse("24GiB"), ram=Bytes.parse(ram) if ram else None)
    plan = fit(read(path), target)
    assert plan.feasible is feasible
    assert (plan.offer is not None and "host RAM" in plan.offer) is not feasible
    assert plan.blocking is None or plan.after.component(plan.blocking) > 0
