"""Which blocks the lever proposes to recompute: never more than one needs for what is saved."""

from __future__ import annotations

from typing import Any

import pytest

from memplan import profiles
from memplan.domain.architecture import Architecture
from memplan.domain.framework import Framework
from memplan.domain.workload import Adapter, Checkpointing, Sequence, Workload
from memplan.families import architecture
from memplan.levers import checkpointing
from memplan.levers.cost.blocks import blocks
from tests.planning import workload

AMPERE = (8, 0)
SIX = Checkpointing(every=1, blocks=tuple(range(6)))
ALL = Checkpointing(every=1)
SIDES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
}
SLIDING = {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 32, "num_hidden_layers": 12} | SIDES


def offered(what: Workload) -> list[Checkpointing]:
    return [option.changes["checkpointing"] for option in checkpointing.options(what, None)]


def shape(config: dict[str, Any]) -> Architecture:
    return architecture(config, lambda _: None)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (Checkpointing(), [Checkpointing(every=4), Checkpointing(every=2), SIX, ALL]),
        (Checkpointing(every=4), [Checkpointing(every=2), SIX, ALL]),
        (Checkpointing(every=2), [SIX, ALL]),
        (Checkpointing(every=1, blocks=tuple(range(5))), [SIX, ALL]),
        (Checkpointing(every=1, blocks=tuple(range(7))), [ALL]),
        (ALL, []),
        (Checkpointing(every=1, reentrant=True), []),
        # Of eight blocks, chunks keep more than single ones do.
        (Checkpointing(every=1, chunk=3), [ALL]),
    ],
    ids=lambda value: value.name if isinstance(value, Checkpointing) else "",
)
def test_only_settings_that_keep_fewer_activations_are_offered(
    now: Checkpointing, expected: list[Checkpointing]
) -> None:
    assert offered(workload().changed("checkpointing", now)) == expected


def test_inputs_that_wait_on_the_host_go_on_doing_so() -> None:
    away = Checkpointing(every=2, offload=True)
    assert all(setting.offload for setting in offered(workload().changed("checkpointing", away)))


def test_frameworks_that_count_from_one_are_offered_the_last_of_every_few_blocks() -> None:
    tune = workload().changed("framework", Framework(code="torchtune"))
    assert offered(tune)[:2] == [Checkpointing(every=4, start=3), Checkpointing(every=2, start=1)]
    titan = workload().changed("checkpointing", Checkpointing(every=4, start=3))
    assert offered(titan)[0] == Checkpointing(every=2, start=1)


def test_of_two_blocks_only_both_are_offered() -> None:
    shallow = shape({"model_type": "llama", "num_hidden_layers": 2} | SIDES)
    assert offered(Workload(model=shallow)) == [ALL]


def test_blocks_that_are_cheap_to_run_again_go_before_the_others() -> None:
    model = shape(SLIDING)
    run = Workload(model=model, sequence=Sequence(length=256))
    found = blocks(run, model, AMPERE)
    wide = [depth for depth in range(12) if model.layer_type(depth) == "full_attention"]
    narrow = [depth for depth in range(12) if depth not in wide]
    assert min(found[depth].worth for depth in narrow) > max(found[depth].worth for depth in wide)
    chosen = [setting.blocks for setting in offered(run) if setting.blocks is not None]
    assert chosen == [tuple(narrow[:9])]


def test_only_a_deep_model_is_offered_chunks_and_those_are_leaner() -> None:
    from memplan.estimate.simulation import least_allocated

    for size, chunked in (("70B", True), ("8B", False)):
        known = profiles.model(f"meta-llama/Llama-3.1-{size}")
        assert known is not None
        model = shape(dict(known.config))
        run = Workload(model=model, adapter=Adapter(), sequence=Sequence(length=8192))
        full, last = offered(run)[-2:] if chunked else [ALL, offered(run)[-1]]
        assert full == ALL
        assert (last.chunk == 2) is chunked
        if chunked:
            allocated = [
                least_allocated(run.changed("checkpointing", setting), model, AMPERE)
                for setting in (full, last)
            ]
            assert allocated[1] < allocated[0]


def test_what_a_block_keeps_is_what_the_simulator_keeps() -> None:
    from memplan.domain.trace import Phase
    from memplan.estimate.simulation import simulated

    model = shape({"model_type": "llama", "num_hidden_layers": 8} | SIDES)
    run = Workload(model=model, sequence=Sequence(length=128))

    def kept(setting: Checkpointing) -> int:
        trace = simulated(run.changed("checkpointing", setting), model, AMPERE)
        end = next(start for start, phase in trace.phases if phase is Phase.BACKWARD)
        return sum(trace.sizes[event] if event >= 0 else -trace.sizes[~event] for event in trace.events[:end])

    found = blocks(run, model, AMPERE)
    for number in (1, 3, 6):
        some = Checkpointing(every=1, blocks=tuple(range(number)))
        freed = sum(found[depth].kept - found[depth].input for depth in range(number))
        assert kept(Checkpointing()) - kept(some) == freed


def test_options_say_which_blocks_are_run_again() -> None:
    reasons = [option.reason for option in checkpointing.options(workload(), None)]
    assert reasons == [
        "every 4th block keeps only its input and runs its forward pass again",
        "every 2nd block keeps only its input and runs its forward pass again",
        "6 of 8 blocks keep only their input and run their forward pass again",
        "every block keeps only its input and runs its forward pass again",
    ]


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        (Checkpointing(every=1, chunk=4), "chunks of 4"),
        (Checkpointing(every=2, start=1), "every 2 from block 1"),
        (Checkpointing(every=1, start=3), "full from block 3"),
        (Checkpointing(every=1, blocks=(0, 1, 2)), "first 3 blocks"),
        (Checkpointing(every=1, blocks=(0, 2, 3, 7)), "blocks 0, 2-3, 7"),
        (Checkpointing(every=1, blocks=(0, 2, 4, 6, 8, 9)), "6 blocks: 0, 2, 4, … 8-9"),
    ],
)
def test_settings_have_names_that_fit_into_a_line(setting: Checkpointing, name: str) -> None:
    assert setting.name == name
