"""The golden table of plans: ``python -m tests.golden.plan_table --update``.

Eight runs as people have them on five GPUs. Whoever changes what is planned reads the difference, and
decides whether it is what somebody who knows the card and the framework would have chosen.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from memplan import profiles
from memplan.domain.plan import Plan
from memplan.domain.wording import in_words
from memplan.fit import fit
from memplan.read import read

HERE = Path(__file__).parent
GOLDEN = HERE / "plans.txt"
NEUROGEN = HERE.parents[1] / "examples" / "neurogen"
CASES = (*sorted((HERE / "plans").iterdir()), NEUROGEN)
GPUS = ("gtx1650", "rtx3060", "rtx3090", "a100-80gb", "h100")


def table() -> str:
    """Every case on every GPU, a paragraph each."""
    return "\n".join(paragraph(case) for case in CASES)


def paragraph(case: Path) -> str:
    """One case on every GPU; of several GPUs the plan alone, since a simulation takes long there."""
    reading = read(case)
    brief = reading.workload.world.data_parallel > 1
    rows = [row for gpu in GPUS for row in _rows(gpu, fit(reading, profiles.target(gpu), brief=brief))]
    return "\n".join([case.stem, *rows]) + "\n"


def _rows(gpu: str, plan: Plan) -> Iterator[str]:
    before, after = plan.before.device.process.rounded(), plan.after.device.process.rounded()
    if plan.feasible and not plan.changes:
        yield f"  {gpu}: fits as it is, {before}"
        return
    word = "fits" if plan.feasible else f"infeasible, {plan.blocking} blocks, the closest"
    needs = f", needs {', '.join(plan.requires)}" if plan.requires else ""
    yield f"  {gpu}: {before}; {word} is {after}, {plan.slowdown:.2f}x, {plan.harm.label}{needs}"
    if plan.changes:
        yield f"    {in_words(plan.changes)}"
    if plan.advice:
        yield f"    by hand: {', '.join(sorted({item.field for item in plan.advice}))}"
    if plan.offer:
        yield f"    {plan.offer}"
    for other in plan.alternatives:
        yield f"    or {other.name}: {other.trade}"


if __name__ == "__main__":
    if "--update" in sys.argv[1:]:
        GOLDEN.write_text(table(), encoding="utf-8")
    else:
        sys.stdout.write(table())
