"""An episodic memory run for real on the CPU, beside what its program foretells."""

from __future__ import annotations

import resource

import psutil
import pytest
import torch

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.domain.measurement import Comparison
from memplan.domain.setting import Scalar
from memplan.domain.workload import Task, Workload
from memplan.programs import episodic_memory
from memplan.smoke.cpu.limited import limited, refused
from memplan.smoke.device import Asked
from memplan.smoke.systems import on_cpu

SIZES: dict[str, Scalar] = {"memory_size": 800, "key_size": 96, "batch": 2, "sequence": 40}


def compared(*, budget: int | None = None, **given: Scalar) -> Comparison:
    defaults = {item.name: item.default for item in episodic_memory.SETTINGS if item.default is not None}
    values = tuple({**defaults, **SIZES, **given}.items())
    model = DeclaredModel(mechanism=episodic_memory.NAME, values=values)
    asked = Asked(steps=1, budget=None if budget is None else Bytes(budget))
    return on_cpu(Workload(model=model, task=Task.GENERATE), asked)


@pytest.mark.parametrize(
    ("form", "chunk"), [("broadcast", 0), ("broadcast", 32), ("matmul", 0), ("matmul", 32)]
)
def test_every_component_is_foretold_to_the_byte(form: str, chunk: int) -> None:
    found = compared(similarity=form, read_chunk=chunk, write_chunk=chunk)
    assert found.shortage is None
    assert found.measured.peak_allocated == found.predicted.peak_allocated
    assert dict(found.measured.components) == dict(found.predicted.components)
    assert dict(found.measured.phases) == dict(found.predicted.phases)


def test_a_budget_too_small_for_broadcast_is_seen_where_it_was_foretold() -> None:
    cube = 80 * 800 * 96 * 4
    found = compared(similarity="broadcast", read_chunk=0, write_chunk=0, budget=2 * cube)
    assert found.shortage is not None
    assert found.foreseen
    assert found.shortage.tried == cube
    assert dict(found.shortage.alive) == dict(found.shortage.predicted)
    assert compared(similarity="matmul", budget=2 * cube).shortage is None


def test_a_run_larger_than_the_machine_is_refused_with_what_would_make_it_smaller() -> None:
    with pytest.raises(InputError, match="of host memory are free") as caught:
        compared(memory_size=2**30, sequence=2**20, similarity="broadcast", read_chunk=0)
    assert caught.value.hint is not None
    assert "memory_size, key_size, batch, sequence" in caught.value.hint


@pytest.mark.skipif(psutil.virtual_memory().available > 40e9, reason="this machine holds all of it")
def test_what_the_machine_does_not_hold_dies_for_real_at_the_request_that_was_foretold() -> None:
    sizes: dict[str, Scalar] = {"memory_size": 5000, "key_size": 768, "batch": 8, "sequence": 128}
    found = compared(similarity="broadcast", read_chunk=0, write_chunk=0, budget=2**29, **sizes)
    assert found.shortage is not None
    assert found.foreseen
    assert found.shortage.tried == 1024 * 5000 * 768 * 4
    assert dict(found.shortage.alive) == dict(found.shortage.predicted)
    assert any("RLIMIT_DATA" in note for note in found.notes)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    assert limits[0] == limits[1] or limits[0] > 2**33


def test_a_limit_is_lifted_again_and_only_its_refusals_are_told_from_other_errors() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(RuntimeError) as caught, limited(2**26):
        torch.empty(2**30, dtype=torch.uint8)
    assert refused(caught.value) == 2**30
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert refused(RuntimeError("shapes do not match")) is None
