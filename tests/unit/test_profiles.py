"""The facts under ``profiles/``: that they hang together, equal other sources, and are found by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memplan import profiles
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, MemplanError, UnknownNameError
from memplan.domain.target import ASSUMED_CAPABILITY, Gpu
from memplan.profiles.names import folded
from memplan.profiles.store import OVERLAY_VARIABLE

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("MEMPLAN_SHARED", ROOT / "../shared"))
GPUS = profiles.gpus()


def test_there_are_at_least_sixty_gpus_and_forty_hub_ids() -> None:
    assert len(GPUS) >= 60
    assert len(profiles.model_ids()) >= 40


def test_the_range_goes_from_pascal_to_blackwell() -> None:
    capabilities = {gpu.compute_capability for gpu in GPUS}
    assert {(6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)} <= capabilities


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_a_gpu_hangs_together(gpu: Gpu) -> None:
    assert 0.9 < gpu.usable / gpu.capacity < 1
    assert 100 * 2**20 < gpu.context < 2**30
    assert 10**11 <= gpu.bandwidth < 10**13
    assert gpu.tflops["fp16"] >= gpu.tflops["fp32"]
    assert gpu.tflops.get("fp8", 2 * gpu.tflops["fp16"]) == pytest.approx(2 * gpu.tflops["fp16"], rel=0.02)
    assert (Dtype.BF16 in gpu.dtypes) == gpu.flash_attention_2 == (gpu.compute_capability >= (8, 0))
    assert gpu.fp8 == (gpu.compute_capability >= (8, 9))
    for field in (gpu.source, gpu.usable_source, gpu.context_source, gpu.date):
        assert field


def test_a_gpu_is_found_under_its_name_its_title_and_its_aliases() -> None:
    for gpu in GPUS:
        for spelling in (gpu.name, gpu.title, *gpu.aliases):
            assert profiles.gpu(spelling) == gpu


@pytest.mark.parametrize(
    ("name", "capacity_mib", "lowest_gib", "highest_gib"),
    [
        ("gtx1650", 4096, 3.819, 3.82),
        ("t4", 15360, 14.56, 14.57),
        ("rtx3090", 24576, 23.5, 23.7),
        ("a6000", 49140, 47.3, 47.6),
        ("rtx4090", 24564, 23.5, 23.65),
        ("h100", 81559, 79.0, 79.2),
        ("b200", 183359, 178.3, 178.4),
    ],
)
def test_capacity_and_usable_bytes_are_those_people_see(
    name: str, capacity_mib: int, lowest_gib: float, highest_gib: float
) -> None:
    gpu = profiles.gpu(name)
    assert gpu.capacity == capacity_mib * 2**20
    assert lowest_gib <= gpu.usable / 2**30 <= highest_gib
    assert gpu.usable_basis == "measured"


def test_the_t4_context_is_the_one_measured() -> None:
    path = SHARED / "truth" / "measured.jsonl"
    if not path.exists():
        pytest.skip("the published measurements are not at hand")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    measured = {
        entry["bytes"]
        for row in rows
        for entry in row["measured"]
        if row["gpu"].startswith("Tesla T4") and entry["metric"] == "cuda_context"
    }
    assert profiles.gpu("t4").context in measured
    assert profiles.gpu("t4").context_basis == "measured"


def test_few_contexts_are_measured_and_the_rest_say_where_they_come_from() -> None:
    measured = {gpu.name for gpu in GPUS if gpu.context_basis == "measured"}
    assert measured == {"t4", "rtx-a6000", "h100-pcie", "h100-sxm"}


def test_a_gtx_1650_forbids_bf16_and_flash_attention() -> None:
    target = profiles.target("gtx1650")
    assert not target.supports(Dtype.BF16)
    assert target.supports(Dtype.FP16)
    assert not target.flash_attention_2


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("RTX 3090", "rtx3090"),
        ("3090", "rtx3090"),
        ("geforce-rtx-3090", "rtx3090"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("nvidia_rtx_3090", "rtx3090"),
        ("A100-SXM4-80GB", "a100-80g-sxm"),
        ("NVIDIA A100 80GB PCIe", "a100-80g-pcie"),
        ("Tesla V100-SXM2-32GB", "v100-32g"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx4090-laptop"),
        ("RTX 6000 Ada Generation", "rtx6000-ada"),
        ("3080", "rtx3080-10g"),
        ("a100", "a100-40g-pcie"),
        ("4060 Ti", "rtx4060ti-8g"),
    ],
)
def test_usual_spellings_find_their_gpu(spelling: str, name: str) -> None:
    assert profiles.gpu(spelling).name == name


@given(st.sampled_from(GPUS), st.randoms(use_true_random=False), st.sampled_from(["", " ", "-", "_"]))
def test_case_and_separators_do_not_count(gpu: Gpu, random: Any, separator: str) -> None:
    spelling = separator.join(gpu.name.split("-"))
    shuffled = "".join(random.choice([char.upper(), char.lower()]) for char in spelling)
    assert folded(shuffled) == folded(gpu.name)
    assert profiles.gpu(shuffled) == gpu


@pytest.mark.parametrize(
    ("wrong", "offered"), [("rtx3091", "rtx3090"), ("gtx1650x", "gtx1650"), ("h1000", "h100")]
)
def test_an_unknown_gpu_offers_the_nearest(wrong: str, offered: str) -> None:
    with pytest.raises(UnknownNameError, match=offered):
        profiles.gpu(wrong)


def test_a_target_is_a_gpu_or_an_amount() -> None:
    card = profiles.target("rtx3090", ram=Bytes.parse("64GiB"))
    assert card.gpu == profiles.gpu("rtx3090")
    assert card.limit == card.usable == profiles.gpu("rtx3090").usable
    assert card.ram == 64 * 2**30
    amount = profiles.target("24GiB")
    assert (amount.gpu, amount.limit, amount.compute_capability) == (None, 24 * 2**30, ASSUMED_CAPABILITY)
    assert amount.context_basis == "assumed"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("24", FieldError, "no unit"),
        ("0GiB", FieldError, "no memory"),
        ("-4GiB", FieldError, "not an amount"),
        ("1e400", FieldError, "not an amount"),
        ("99999999TiB", FieldError, "more than 1 EiB"),
        ("rtx", UnknownNameError, "rtx"),
        ("", UnknownNameError, "no GPU"),
        ("\x00", UnknownNameError, "no GPU"),
    ],
)
def test_a_wrong_target_is_explained(text: str, error: type[MemplanError], message: str) -> None:
    with pytest.raises(error, match=message):
        profiles.target(text)


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_a_memplan_error(text: str) -> None:
    try:
        target = profiles.target(text)
    except MemplanError:
        return
    assert target.limit > 0


def test_looking_up_loads_neither_pydantic_nor_yaml() -> None:
    script = (
        "import sys; import memplan.profiles as p; p.target('rtx3090'); p.model('TinyLlama/TinyLlama_v1.1');"
        "p.named('gtx1650'); print([name for name in ('pydantic', 'yaml', 'torch') if name in sys.modules])"
    )
    environment = {key: value for key, value in os.environ.items() if key != OVERLAY_VARIABLE}
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


NEUROGEN_TOTALS = {
    "ultra-conservative": 1_840_000_000,
    "balanced": 2_150_000_000,
    "aggressive": 2_740_000_000,
}


@pytest.mark.parametrize("gpu_name", ["gtx1650", "rtx3090"])
def test_named_profiles_run_from_careful_to_bold(gpu_name: str) -> None:
    named = profiles.named(gpu_name)
    assert [profile.name for profile in named] == ["ultra-conservative", "balanced", "aggressive"]
    assert [profile.name for profile in named if profile.default] == ["balanced"]
    margins = [profile.margin for profile in named]
    assert margins == sorted(margins, reverse=True)
    for profile in named:
        sizes = [rung["embedding_dim"] for rung in profile.rungs]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("profile", profiles.named("gtx1650"), ids=lambda profile: profile.name)
def test_the_first_rung_of_each_gtx_1650_profile_fits_its_margin(profile: profiles.NamedProfile) -> None:
    gpu = profiles.gpu("gtx1650")
    budget = gpu.usable * (1 - profile.margin) - gpu.context
    assert NEUROGEN_TOTALS[profile.name] <= budget
    bolder = [total for total in NEUROGEN_TOTALS.values() if total > NEUROGEN_TOTALS[profile.name]]
    assert all(total > budget for total in bolder)


def test_the_default_profile_is_found_without_a_name() -> None:
    assert profiles.named_profile("GTX 1650").name == "balanced"
    assert profiles.named_profile("gtx1650", "aggressive").rungs[0]["output_dim"] == 12288


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="did you mean balanced"):
        profiles.named_profile("gtx1650", "balance")
    with pytest.raises(UnknownNameError, match="no named profiles"):
        profiles.named_profile("b200")
    assert profiles.named("b200") == ()
