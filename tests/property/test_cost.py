"""Laws of the cost model: what saves memory is never faster, and levers keep each other's order."""

from __future__ import annotations

from itertools import pairwise
from math import isfinite
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan import profiles
from memplan.domain.architecture import Architecture
from memplan.domain.checkpointing import Checkpointing
from memplan.domain.dtype import Dtype
from memplan.domain.host import ActivationOffload, HostUse
from memplan.domain.target import Target
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Evaluation,
    Generate,
    Loss,
    Optimizer,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
    World,
)
from memplan.domain.zero import Place, Zero
from memplan.families import architecture
from memplan.fit.space import applied
from memplan.levers import LEVERS, UNRANKED
from memplan.levers.cost import slowdown, token_seconds

SLACK = 1 + 1e-9
"""Rounding of sums."""

RANKED = [lever for lever in LEVERS if lever.NAME not in UNRANKED]


def known(hub_id: str) -> Architecture:
    profile = profiles.model(hub_id)
    assert profile is not None
    return architecture(profile.config, lambda _: None)


MODELS = [
    known(hub_id)
    for hub_id in (
        "HuggingFaceTB/SmolLM2-135M",
        "meta-llama/Llama-3.1-8B",
        "mistralai/Mixtral-8x7B-v0.1",
        "google/gemma-2-2b",
        "openai-community/gpt2",
        "google-bert/bert-large-uncased",
        "google-t5/t5-base",
        "deepseek-ai/DeepSeek-V3",
    )
]
SMALL = [MODELS[0], MODELS[4]]
"""Whose checkpointing options, which take a simulation, are found at once."""

TARGETS = [
    None,
    *(profiles.target(name) for name in ("t4", "rtx3060", "rtx3090", "a100-80gb", "h100", "24GiB")),
]

models = st.sampled_from(MODELS)
targets = st.sampled_from(TARGETS)
adapters = st.none() | st.builds(
    Adapter,
    rank=st.sampled_from([4, 64]),
    targets=st.sampled_from([("q_proj", "v_proj"), ("query", "dense"), ("c_attn",)]),
    dtype=st.sampled_from([Dtype.FP32, Dtype.BF16]),
    prepare_kbit=st.booleans(),
)
optimizers = st.builds(
    Optimizer,
    name=st.sampled_from(["adamw", "sgd", "lion", "adafactor", "adamw_8bit", "paged_adamw_32bit"]),
    implementation=st.sampled_from(["foreach", "fused", "for_loop"]),
    set_to_none=st.booleans(),
    clipping=st.booleans(),
)
worlds = st.builds(
    World,
    data_parallel=st.sampled_from([1, 2, 8]),
    sharding=st.sampled_from(["none", "zero1", "zero2", "zero3", "fsdp2"]),
    no_sync=st.booleans(),
    reduce_dtype=st.sampled_from([None, Dtype.BF16]),
    reshard_after_forward=st.booleans(),
    zero=st.builds(
        Zero,
        optimizer=st.sampled_from(Place),
        parameters=st.sampled_from(Place),
        communication=st.sampled_from([None, Dtype.BF16]),
    ),
)
losses = st.sampled_from(
    [
        Loss(),
        Loss(kind="chunked", chunks=8),
        *(Loss(kind=kind) for kind in ("fused_linear", "liger_cross_entropy", "cut_cross_entropy")),
    ]
)


@st.composite
def workloads(draw: st.DrawFn, of: st.SearchStrategy[Architecture] = models) -> Workload:
    """A training run, sensible or not: laws hold of both."""
    adapter = draw(adapters)
    return Workload(
        model=draw(of),
        precision=Precision(
            params=draw(st.sampled_from([Dtype.FP32, Dtype.BF16])),
            autocast=draw(st.sampled_from([None, Dtype.FP16])),
        ),
        batch=Batch(micro=draw(st.sampled_from([1, 2, 6, 8])), accumulation=draw(st.sampled_from([1, 2, 5]))),
        sequence=Sequence(length=draw(st.sampled_from([7, 128, 500, 4096]))),
        optimizer=draw(optimizers),
        adapter=adapter,
        quantization=Quantization(kind="nf4") if adapter and draw(st.booleans()) else None,
        attention=draw(st.sampled_from(Attention)),
        checkpointing=Checkpointing(every=draw(st.sampled_from([0, 1, 3])), offload=draw(st.booleans())),
        activation_offload=draw(st.sampled_from(ActivationOffload)),
        loss=draw(losses),
        evaluation=draw(st.sampled_from([None, Evaluation(batch=0), Evaluation(batch=8)])),
        world=draw(worlds),
        host=HostUse(workers=draw(st.sampled_from([0, 4])), pinned=draw(st.booleans())),
        causal_mask=draw(st.booleans()),
    )


def never_faster(what: Workload, target: Target | None, path: str, *values: Any) -> None:
    """Each value of a field takes as long as the one before it, or longer."""
    times = [token_seconds(what.changed(path, value), target) for value in values]
    assert all(less <= more * SLACK for less, more in pairwise(times)), list(zip(values, times, strict=True))


@settings(max_examples=40, deadline=None)
@given(what=workloads(), target=targets)
def test_times_are_finite_and_a_workload_is_as_fast_as_itself(what: Workload, target: Target | None) -> None:
    seconds = token_seconds(what, target)
    assert isfinite(seconds)
    assert seconds > 0
    assert slowdown(what, what, target) == 1.0
    assert slowdown(what, what.changed("batch", what.batch), target) == 1.0


@settings(max_examples=40, deadline=None)
@given(what=workloads(), target=targets, splits=st.sampled_from([(1, 2), (1, 3), (2, 4)]))
def test_smaller_micro_batches_are_never_faster(
    what: Workload, target: Target | None, splits: tuple[int, int]
) -> None:
    whole = 12
    batches = [Batch(micro=whole // split, accumulation=split) for split in (1, *splits, 12)]
    never_faster(what, target, "batch", *batches)


@settings(max_examples=40, deadline=None)
@given(
    what=workloads(), target=targets, few=st.integers(0, 6), more=st.integers(0, 6), chunk=st.integers(1, 4)
)
def test_recomputing_more_blocks_is_never_faster(
    what: Workload, target: Target | None, few: int, more: int, chunk: int
) -> None:
    never_faster(
        what,
        target,
        "checkpointing",
        Checkpointing(),
        Checkpointing(every=1, blocks=tuple(range(few))),
        Checkpointing(every=1, blocks=tuple(range(few + more))),
        Checkpointing(every=1, chunk=chunk),
    )


@settings(max_examples=40, deadline=None)
@given(what=workloads(), target=targets)
def test_offloading_more_is_never_faster(what: Workload, target: Target | None) -> None:
    kinds = ActivationOffload
    slower = (kinds.NONE, kinds.STREAMS, kinds.SINGLE_STREAM, kinds.SAVE_ON_CPU)
    never_faster(what.changed("checkpointing.offload", False), target, "activation_offload", *slower)
    never_faster(what, target, "checkpointing.offload", False, True)
    never_faster(what, target, "world.zero.optimizer", Place.GPU, Place.CPU, Place.NVME)
    never_faster(what, target, "world.zero.parameters", Place.GPU, Place.CPU, Place.NVME)


@settings(max_examples=40, deadline=None)
@given(what=workloads(), target=targets)
def test_sharding_more_is_never_faster(what: Workload, target: Target | None) -> None:
    plain = what.changed("world.zero", Zero(communication=what.world.zero.communication))
    never_faster(plain, target, "world.sharding", "none", "zero1", "zero2", "zero3")
    never_faster(plain, target, "world.sharding", "none", "fsdp2")
    never_faster(plain.changed("world.sharding", "fsdp2"), target, "world.reshard_after_forward", False, True)


@pytest.mark.parametrize("lever", RANKED, ids=lambda lever: lever.NAME)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), what=workloads(st.sampled_from(SMALL)), target=targets)
def test_the_fastest_option_of_a_lever_is_the_fastest_whatever_the_others_do(
    lever: Any, data: st.DataObject, what: Workload, target: Target | None
) -> None:
    free = [None, *(option for option in lever.options(what, target) if not option.degree)]
    own = [() if option is None else (option,) for option in free]
    fastest = min(own, key=lambda options: token_seconds(applied(what, options), target))
    others = what
    for other in LEVERS:
        if other is not lever and (offered := other.options(what, target)):
            others = applied(others, data.draw(st.sampled_from([(), *((option,) for option in offered)])))
    times = [token_seconds(applied(others, options), target) for options in own]
    assert token_seconds(applied(others, fastest), target) <= min(times) * SLACK


@settings(max_examples=40, deadline=None)
@given(
    model=models,
    target=targets,
    micro=st.integers(1, 8),
    prompt=st.integers(1, 4096),
    new=st.integers(1, 500),
)
def test_generation_of_longer_prompts_and_all_logits_is_never_faster(
    model: Architecture, target: Target | None, micro: int, prompt: int, new: int
) -> None:
    what = Workload(
        model=model,
        task=Task.GENERATE,
        batch=Batch(micro=micro),
        generate=Generate(prompt=prompt, new_tokens=new, logits="last"),
    )
    never_faster(what, target, "generate.prompt", prompt, prompt + 64)
    never_faster(what, target, "generate.logits", "last", "all")
