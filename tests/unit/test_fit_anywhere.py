"""The ranking of GPUs: each is what ``fit`` says of it alone, and the order is that of somebody who rents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memplan import profiles
from memplan.dialects.reading import Reading
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Verdict
from memplan.domain.target import Gpu, Target
from memplan.estimate import estimate
from memplan.fit import fit
from memplan.fit.anywhere import Ranked, Standing, moved, rank
from memplan.read import read
from tests.planning import UNCOUNTED

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("attention", "checkpointing", *UNCOUNTED)
"""Only the batch is left to be changed: there is less to search."""

CONFIG = """\
memplan: 1
model: {ref: HuggingFaceTB/SmolLM2-135M}
precision: {params: %s}
batch: {micro: 16}
sequence: {length: 512}
"""
NAMES = ("rtx3060", "rtx3050-laptop", "rtx3090", "rtx3080-10g", "a100-40g-sxm", "a100-80g-sxm")


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    return written(tmp_path)


def written(folder: Path, params: str = "fp32") -> Reading:
    path = folder / "train.yaml"
    path.write_text(CONFIG % params, encoding="utf-8")
    return read(path)


def gpus(*names: str) -> tuple[Gpu, ...]:
    return tuple(profiles.gpu(name) for name in names)


def ranked(reading: Reading, *names: str, **policy: object) -> dict[str, Ranked]:
    found = rank(reading, gpus(*(names or NAMES)), policy={"keep": KEPT, **policy})
    return {each.gpu.name: each for each in found}


def test_every_gpu_is_what_fit_says_of_it_alone(reading: Reading) -> None:
    for name, each in ranked(reading).items():
        alone = fit(reading, Target.of_gpu(profiles.gpu(name)), keep=KEPT, brief=True)
        assert each.fits is alone.feasible, name
        if alone.feasible:
            changed = [(change.field, change.after) for change in alone.changes]
            assert [(change.field, change.after) for change in each.changes] == changed, name
            assert each.needs == alone.after.device.process, name
            assert each.headroom == alone.after.headroom, name


def test_first_come_those_it_fits_on_as_it_is_and_of_these_the_smallest(reading: Reading) -> None:
    found = list(ranked(reading).values())
    order = [(list(Standing).index(each.standing), each.harm) for each in found]
    assert order == sorted(order)
    as_is = [each.gpu.capacity for each in found if each.standing is Standing.FITS]
    assert as_is
    assert as_is == sorted(as_is)


def test_the_fastest_it_fits_on_has_the_speed_of_one(reading: Reading) -> None:
    found = ranked(reading)
    speeds = [each.speed for each in found.values() if each.fits]
    assert max(speeds) == 1.0
    assert found["a100-80g-sxm"].speed > found["rtx3060"].speed > 0
    assert {each.speed for each in found.values() if not each.fits} <= {0.0}


def test_what_no_change_makes_fit_misses_by_more_the_smaller_the_gpu(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("memplan: 1\nmodel: {ref: meta-llama/Llama-3.2-1B}\n", encoding="utf-8")
    found = ranked(read(path), "rtx3050-8g", "rtx3060-laptop", "rtx3050-laptop", keep=("batch", *KEPT))
    assert list(found) == ["rtx3050-8g", "rtx3060-laptop", "rtx3050-laptop"]
    assert {each.standing for each in found.values()} == {Standing.DOES_NOT_FIT}
    missing = [each.missing for each in found.values()]
    assert missing == sorted(missing)
    assert missing[0] > 0


def test_a_gpu_without_what_the_config_asks_for_is_told_apart(tmp_path: Path) -> None:
    found = ranked(written(tmp_path, "bf16"), "t4", "rtx3060")
    assert found["t4"].standing is Standing.LACKS
    assert "bf16" in found["t4"].lacks[0]
    assert list(found) == ["rtx3060", "t4"]


def test_the_margin_counts_on_every_gpu(reading: Reading) -> None:
    plain, careful = (
        ranked(reading, "rtx3090", "a100-40g-sxm"),
        ranked(reading, "rtx3090", "a100-40g-sxm", margin="80%"),
    )
    assert plain["a100-40g-sxm"].standing is Standing.FITS
    assert careful["a100-40g-sxm"].standing is not Standing.FITS


def test_host_memory_counts_if_it_is_known(reading: Reading) -> None:
    (found,) = rank(reading, gpus("a100-80g-sxm"), ram=Bytes(2**20), policy={"keep": KEPT})
    assert not found.fits


def test_every_gpu_advances_once(reading: Reading) -> None:
    done: list[None] = []
    rank(reading, gpus(*NAMES), policy={"keep": KEPT}, advance=lambda: done.append(None))
    assert len(done) == len(NAMES)


def test_declared_models_are_planned_with_the_profiles_of_each_gpu() -> None:
    found = rank(read(ROOT / "examples/neurogen"), gpus("gtx1650", "rtx3090", "rtx3060"))
    assert {each.gpu.name: each.standing for each in found} == {
        "rtx3060": Standing.FITS,
        "rtx3090": Standing.FITS,
        "gtx1650": Standing.FITS_AFTER_CHANGES,
    }


@pytest.mark.parametrize(("origin", "other"), [("rtx3090", "rtx3060"), ("rtx3060", "rtx3090")])
def test_an_estimate_moved_to_another_gpu_is_the_estimate_made_there(
    origin: str, other: str, reading: Reading
) -> None:
    workload = reading.workload.changed("batch.micro", 4)
    here, there = (Target.of_gpu(profiles.gpu(name)) for name in (origin, other))
    made = estimate(workload, there)
    assert made.verdict is Verdict.FITS
    found = moved(estimate(workload, here), there)
    assert found is not None
    assert replace(found, device=replace(found.device, gaps=())) == replace(
        made, device=replace(made.device, gaps=())
    )
