"""The allocator of a run has the settings that are planned, whatever the shell has."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from memplan.domain.allocator import VARIABLE, AllocatorOptions
from memplan.domain.errors import InputError
from memplan.smoke.gpu.settings import NEWER, prepare

EXPANDABLE = AllocatorOptions(expandable_segments=True)


@pytest.fixture(autouse=True)
def before_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


def test_planned_settings_are_set() -> None:
    environment: dict[str, str] = {}
    assert prepare(EXPANDABLE, environment) == ()
    assert environment == {VARIABLE: "expandable_segments:True"}
    assert prepare(EXPANDABLE, environment) == ()


def test_settings_of_the_shell_make_way_and_are_named() -> None:
    environment = {VARIABLE: "max_split_size_mb:64", NEWER: "max_split_size_mb:32"}
    notes = prepare(EXPANDABLE, environment)
    assert environment == {VARIABLE: "expandable_segments:True"}
    told = "was set here; the run has what is planned: expandable_segments:True"
    assert notes == (f"{VARIABLE}=max_split_size_mb:64 {told}", f"{NEWER}=max_split_size_mb:32 {told}")


def test_a_plan_without_settings_runs_without_any() -> None:
    environment = {VARIABLE: "expandable_segments:True"}
    assert "planned: none" in prepare(AllocatorOptions(), environment)[0]
    assert environment == {}
    assert prepare(AllocatorOptions(), environment) == ()


def test_once_cuda_is_in_use_other_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    started = SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", started)
    environment = {VARIABLE: "expandable_segments:True"}
    assert prepare(EXPANDABLE, environment) == ()
    with pytest.raises(InputError, match="CUDA is in use in this process already"):
        prepare(AllocatorOptions(), environment)
    assert environment == {VARIABLE: "expandable_segments:True"}
