"""At the limit of a GPU: cached memory is given back, or the run dies as PyTorch says it."""

from __future__ import annotations

import re

import pytest

from memplan.domain.allocator import AllocatorOptions
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Batch, Generate, Optimizer, Sequence, Task, Workload
from memplan.estimate import estimate, first_failure, trace_of
from memplan.estimate.growth import left_behind
from memplan.families import architecture

MIB = 2**20
CONTEXT = Bytes(100 * MIB)
MODEL = architecture(
    {
        "model_type": "llama",
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "vocab_size": 16000,
    },
    lambda _: None,
)
RUN = Workload(
    model=MODEL,
    batch=Batch(micro=8),
    sequence=Sequence(length=1024),
    attention=Attention.EAGER,
    optimizer=Optimizer(name="sgd"),
)


def target(amount: int) -> Target:
    """A GPU of compute capability 8.0 with a measured context of 100 MiB."""
    return Target(
        name="card",
        capacity=Bytes(amount + 10 * MIB),
        usable=Bytes(amount),
        context=CONTEXT,
        context_basis="measured",
    )


def on(amount: int, run: Workload = RUN) -> Estimate:
    return estimate(run, target(amount))


@pytest.fixture(scope="module")
def roomy() -> Estimate:
    return on(2**40)


def test_with_room_nothing_is_given_back(roomy: Estimate) -> None:
    assert (roomy.verdict, roomy.device.returned, roomy.device.failure) == (Verdict.FITS, 0, None)
    assert on(roomy.device.process).device == roomy.device


def test_a_run_that_reserves_more_than_there_is_may_fit_by_giving_memory_back(roomy: Estimate) -> None:
    device = roomy.device
    assert device.peak_reserved - device.peak_allocated > 100 * MIB
    limit = device.process - 20 * MIB
    tight = on(limit)
    assert tight.verdict is Verdict.FITS
    assert tight.device.returned > 0
    assert tight.device.high <= limit
    assert tight.headroom >= 0
    assert tight.device.peak_allocated == device.peak_allocated
    assert any("giving cached memory back" in gap.reason for gap in tight.device.gaps)
    assert first_failure(RUN, target(limit), trace_of(RUN, (8, 0))) is None


def test_no_run_fits_in_less_than_it_allocates(roomy: Estimate) -> None:
    short = on(roomy.device.peak_allocated + CONTEXT - MIB)
    assert short.verdict is Verdict.DOES_NOT_FIT
    assert short.device.failure is not None


def test_every_verdict_agrees_with_the_replay_at_its_limit(roomy: Estimate) -> None:
    device = roomy.device
    lowest, highest = device.peak_allocated + CONTEXT - 50 * MIB, device.process + 50 * MIB
    verdicts = []
    for limit in range(lowest, highest, 40 * MIB):
        found = on(limit)
        verdicts.append(found.verdict)
        assert (found.verdict is Verdict.FITS) == (found.device.failure is None)
        assert found.verdict is not Verdict.UNDECIDED
        assert found.device.low <= found.device.process <= found.device.high
    assert set(verdicts) == {Verdict.FITS, Verdict.DOES_NOT_FIT}


def test_the_message_is_pytorchs_and_its_numbers_add_up(roomy: Estimate) -> None:
    limit = roomy.device.peak_allocated
    failure = on(limit).device.failure
    assert failure is not None
    assert failure.free == limit - CONTEXT - failure.allocated - failure.cached
    assert failure.free < failure.tried
    assert failure.in_use == limit - failure.free
    number = r"[0-9]+\.[0-9]{2} [MG]iB"
    assert re.fullmatch(
        rf"CUDA out of memory\. Tried to allocate {number}\. GPU 0 has a total capacity of {number} of which "
        rf"{number} is free\. Including non-PyTorch memory, this process has {number} memory in use\. Of the "
        rf"allocated memory {number} is allocated by PyTorch, and {number} is reserved by PyTorch but "
        r"unallocated\.",
        failure.message,
    )


def test_an_assumed_context_leaves_what_dies_by_it_open(roomy: Estimate) -> None:
    device = roomy.device
    amount = device.peak_allocated + CONTEXT - MIB
    assumed = Target(name="card", capacity=Bytes(amount), usable=Bytes(amount), context=CONTEXT)
    found = estimate(RUN, assumed)
    assert found.device.failure is not None
    assert found.verdict is Verdict.UNDECIDED


def test_the_options_of_the_allocator_change_what_is_reserved(roomy: Estimate) -> None:
    expandable = on(2**40, RUN.changed("allocator", AllocatorOptions(expandable_segments=True))).device
    assert expandable.peak_allocated <= roomy.device.peak_allocated
    assert expandable.peak_reserved % (2 * MIB) == 0
    assert expandable.peak_reserved != roomy.device.peak_reserved
    rounded = on(2**40, RUN.changed("allocator", AllocatorOptions.parse("roundup_power2_divisions:2")))
    assert rounded.device.peak_allocated > roomy.device.peak_allocated


def test_a_memory_fraction_is_a_limit(roomy: Estimate) -> None:
    half = RUN.changed("allocator", AllocatorOptions(memory_fraction=0.5))
    amount = 2 * roomy.device.peak_allocated - 100 * MIB
    assert on(amount).verdict is Verdict.FITS
    died = on(amount, half)
    assert died.verdict is Verdict.DOES_NOT_FIT
    assert died.device.failure is not None
    assert " allowed; Of the allocated memory" in died.device.failure.message


def test_decoding_with_a_static_cache_is_compiled_and_may_take_more() -> None:
    asked = Generate(prompt=16, new_tokens=8, cache="static")
    run = Workload(model=MODEL, task=Task.GENERATE, generate=asked)
    device = estimate(run, target(2**40)).device
    assert device.high > device.process
    assert any("compiled" in gap.reason for gap in device.gaps)
    prefill = run.changed("generate.new_tokens", 1)
    assert not any("compiled" in gap.reason for gap in estimate(prefill, target(2**40)).device.gaps)


def test_a_growing_cache_may_leave_segments_behind_that_are_given_back() -> None:
    run = Workload(
        model=MODEL,
        task=Task.GENERATE,
        batch=Batch(micro=64),
        generate=Generate(prompt=16, new_tokens=512, logits="last"),
    )
    trace = trace_of(run, (8, 0))
    left = left_behind(run, trace)
    device = estimate(run, target(2**40)).device
    assert left > device.peak_allocated
    assert device.high == device.process + left
    tight = on(device.process + MIB, run)
    assert (tight.verdict, tight.device.high) == (Verdict.FITS, device.process + MIB)
    assert left_behind(run.changed("generate.cache", "static"), trace) == 0
    assert left_behind(run.changed("allocator.expandable_segments", True), trace) == 0
