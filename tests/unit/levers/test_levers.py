"""What each lever offers, and what every option keeps."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

import memplan.levers
from memplan import profiles
from memplan.dialects.schema import leaves
from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.workload import Attention, Evaluation, Task, Workload, World
from memplan.domain.zero import Zero
from memplan.levers import LEVERS, Lever, adapter, attention, checkpointing, micro_batch, sequence
from tests.planning import workload

BUSY = (
    workload(micro=12, accumulation=5)
    .changed("attention", Attention.EAGER)
    .changed("optimizer.set_to_none", False)
    .changed("evaluation", Evaluation(batch=8, kept=4))
)
SPREAD = BUSY.changed("world", World(data_parallel=4, sharding="zero1", zero=Zero(communication=Dtype.FP32)))
GENERATING = BUSY.changed("task", Task.GENERATE)
SHORT = profiles.target("24GiB", ram=Bytes.parse("16GiB"))
NOT_A_LEVER = {"__init__", "compatible", "cost"}


def fields(options: tuple[Option, ...]) -> set[str]:
    return {field for option in options for field in option.changes}


def test_every_lever_of_the_folder_is_listed() -> None:
    folder = Path(memplan.levers.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - NOT_A_LEVER
    assert {lever.NAME for lever in LEVERS} == names
    assert len(LEVERS) == len(names)


@pytest.mark.parametrize("lever", LEVERS, ids=lambda lever: lever.NAME)
def test_a_lever_says_what_it_does_and_never_harms_more_than_it_says(lever: Lever) -> None:
    options = [option for run in (BUSY, SPREAD, GENERATING) for option in lever.options(run, SHORT)]
    assert lever.SUMMARY
    assert options
    assert all(option.harm <= lever.HARM for option in options)
    assert all(option.reason for option in options)


@pytest.mark.parametrize("lever", LEVERS, ids=lambda lever: lever.NAME)
def test_every_option_changes_every_field_it_names(lever: Lever) -> None:
    for run in (BUSY, SPREAD, GENERATING):
        for option in lever.options(run, None):
            assert all(run.at(field) != value for field, value in option.changes.items())


@pytest.mark.parametrize("lever", LEVERS, ids=lambda lever: lever.NAME)
def test_a_plan_file_can_hold_every_field_of_an_option(lever: Lever) -> None:
    known = {leaf.field for leaf in leaves().values()}
    for run in (BUSY, SPREAD):
        assert fields(lever.options(run, SHORT)) <= known


def test_no_two_levers_change_the_same_field() -> None:
    for run in (BUSY, SPREAD, GENERATING):
        for one, other in combinations(LEVERS, 2):
            assert fields(one.options(run, None)).isdisjoint(fields(other.options(run, None)))


@pytest.mark.parametrize("lever", LEVERS, ids=lambda lever: lever.NAME)
def test_no_lever_moves_a_declared_model(lever: Lever) -> None:
    assert lever.options(Workload(model=DeclaredModel(tensors=(), values=())), None) == ()


@pytest.mark.parametrize(
    "lever", [micro_batch, checkpointing, adapter, sequence], ids=lambda lever: lever.NAME
)
def test_levers_of_training_do_not_apply_to_generation(lever: Lever) -> None:
    assert lever.options(BUSY.changed("task", Task.GENERATE), None) == ()


def test_the_micro_batch_takes_every_smaller_divisor_and_keeps_the_product() -> None:
    pairs = [tuple(option.changes.values()) for option in micro_batch.options(BUSY, None)]
    assert pairs == [(6, 10), (4, 15), (3, 20), (2, 30), (1, 60)]


def test_a_micro_batch_of_one_cannot_shrink() -> None:
    assert micro_batch.options(workload(micro=1), None) == ()


@pytest.mark.parametrize("kind", [kind for kind in Attention if kind is not Attention.EAGER])
def test_only_eager_attention_is_replaced(kind: Attention) -> None:
    assert attention.options(workload().changed("attention", kind), None) == ()


def test_sequences_are_halved_down_to_256_tokens() -> None:
    lengths = [option.changes["sequence.length"] for option in sequence.options(workload(length=3000), None)]
    assert lengths == [1500, 750, 375]
    assert sequence.options(workload(length=511), None) == ()


def test_only_exact_levers_are_called_exact() -> None:
    exact = {lever.NAME for lever in LEVERS if lever.HARM is Harm.EXACT}
    assert exact == {
        "activation_offload",
        "allocator",
        "attention",
        "checkpointing",
        "evaluation",
        "host_offload",
        "loss",
        "micro_batch",
        "prompt_logits",
        "set_to_none",
        "sharding",
        "workers",
    }


def test_no_option_asks_for_what_the_gpu_lacks() -> None:
    turing = profiles.target("gtx1650")
    for lever in LEVERS:
        for option in lever.options(BUSY, turing):
            assert Attention.FLASH_ATTENTION_2 not in option.changes.values()
            assert not any(field.startswith("precision") for field in option.changes)
