"""Laws of the levers that the search prunes with."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memplan import profiles
from memplan.domain.bytes import Bytes
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Evaluation,
    Optimizer,
    Sequence,
    Workload,
)
from memplan.families import architecture
from memplan.fit import least
from memplan.fit.space import SLACK, applied
from memplan.levers import LEVERS, UNRANKED, Lever
from memplan.levers.compatible import compatible
from memplan.levers.cost import slowdown

SMALL = architecture(
    {
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 8000,
        "max_position_embeddings": 4096,
    },
    lambda key: None,
)
ELSEWHERE = ("gradients", "prompt_logits", "kv_cache", "sharding", "host_offload", "workers", "sequence")
"""Levers that do not apply to these workloads, and one whose options all go further."""

RANKED = [lever for lever in LEVERS if lever.NAME not in (*UNRANKED, *ELSEWHERE, "micro_batch")]
TIMED = [lever for lever in LEVERS if lever.NAME not in (*UNRANKED, *ELSEWHERE, "adapter")]
workloads = st.builds(
    lambda micro, accumulation, length, eager, lora, evaluated, kept: Workload(
        model=SMALL,
        batch=Batch(micro=micro, accumulation=accumulation),
        sequence=Sequence(length=length),
        attention=Attention.EAGER if eager else Attention.SDPA,
        adapter=Adapter() if lora else None,
        evaluation=Evaluation(batch=8) if evaluated else None,
        checkpointing=Checkpointing(),
        optimizer=Optimizer(set_to_none=not kept),
    ),
    micro=st.sampled_from([1, 2, 4, 8]),
    accumulation=st.sampled_from([1, 2]),
    length=st.sampled_from([64, 256, 1024]),
    eager=st.booleans(),
    lora=st.booleans(),
    evaluated=st.booleans(),
    kept=st.booleans(),
)
targets = st.sampled_from(
    [profiles.target(name, ram=Bytes(64 * 2**30)) for name in ("rtx3090", "t4", "a100-80gb")]
)


def others(draw: st.DrawFn, what: Workload, where: Target, lever: Lever) -> Workload:
    """The workload with some option of every other lever, or none."""
    for other in LEVERS:
        if other is lever:
            continue
        options = [None, *other.options(what, where)]
        option: Option | None = draw(st.sampled_from(options))
        what = what if option is None else applied(what, (option,))
    return what


@st.composite
def choices(draw: st.DrawFn, lever: Lever) -> tuple[Workload, list[Option | None], Workload, Target]:
    """A workload, the options of a lever for it, and the same workload with other levers pulled."""
    what, where = draw(workloads), draw(targets)
    options = [None, *lever.options(what, where)]
    assume(len(options) > 1)
    around = others(draw, what, where, lever)
    assume(all(compatible(changed(around, option)) for option in options))
    return what, options, around, where


def changed(what: Workload, option: Option | None) -> Workload:
    return what if option is None else applied(what, (option,))


@pytest.mark.parametrize("lever", RANKED, ids=lambda lever: lever.NAME)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_the_last_option_of_a_lever_allocates_least_whatever_the_others_do(
    lever: Lever, data: st.DataObject
) -> None:
    _, options, around, where = data.draw(choices(lever))
    allocated = [least(changed(around, option), where) for option in options]
    assert allocated[-1] <= min(allocated) + SLACK, allocated


@pytest.mark.parametrize("lever", TIMED, ids=lambda lever: lever.NAME)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_fastest_option_of_a_lever_is_the_fastest_whatever_the_others_do(
    lever: Lever, data: st.DataObject
) -> None:
    what, options, around, where = data.draw(choices(lever))
    free = [option for option in options if option is None or not option.degree]
    alone = [slowdown(what, changed(what, option), where) for option in free]
    together = [slowdown(what, changed(around, option), where) for option in free]
    assert together[alone.index(min(alone))] <= min(together) * 1.005
