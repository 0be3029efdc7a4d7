"""Laws of planning: as good as brute force, never more harm than allowed, fits when it says so."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from memplan import profiles
from memplan.apply import apply
from memplan.domain.bytes import Bytes
from memplan.domain.errors import MemplanError
from memplan.domain.harm import Harm
from memplan.domain.target import Target
from memplan.domain.workload import Adapter, Attention, Batch, Checkpointing, Sequence, Workload
from memplan.estimate import estimate as simulate
from memplan.families import architecture
from memplan.fit import fit, least
from memplan.fit.policy import Estimator, Policy
from memplan.fit.search import Search
from memplan.levers import LEVERS
from memplan.levers.compatible import compatible
from memplan.levers.cost import slowdown
from memplan.read import read
from tests.planning import MIB, UNCOUNTED, Counter, estimate, reading, target, workload

workloads = st.builds(
    lambda micro, accumulation, length, every, eager: (
        workload(micro, accumulation, length)
        .changed("checkpointing", Checkpointing(every=every))
        .changed("attention", Attention.EAGER if eager else Attention.SDPA)
    ),
    micro=st.sampled_from([1, 2, 3, 4, 6, 8, 12]),
    accumulation=st.sampled_from([1, 2, 5]),
    length=st.sampled_from([256, 384, 512, 1024, 2048]),
    every=st.sampled_from([0, 1, 2]),
    eager=st.booleans(),
)
limits = st.integers(150, 9000)
harms = st.sampled_from(list(Harm))
margins = st.sampled_from(["0%", "10%", "200MiB"])


TINY = architecture(
    {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 1000,
        "max_position_embeddings": 2048,
    },
    lambda key: None,
)
tiny = st.builds(
    lambda micro, accumulation, length, every, eager, lora: Workload(
        model=TINY,
        batch=Batch(micro=micro, accumulation=accumulation),
        sequence=Sequence(length=length),
        checkpointing=Checkpointing(every=every),
        attention=Attention.EAGER if eager else Attention.SDPA,
        adapter=Adapter() if lora else None,
    ),
    micro=st.sampled_from([1, 2, 4, 6]),
    accumulation=st.sampled_from([1, 2]),
    length=st.sampled_from([64, 100, 256, 600]),
    every=st.sampled_from([0, 1, 2]),
    eager=st.booleans(),
    lora=st.booleans(),
)
gpus = st.sampled_from([profiles.target("rtx3090"), profiles.target("t4")])


def pulled(what: Workload, where: Target, levers: set[str]) -> tuple[str, ...]:
    """Fields to keep, so that only some levers can be pulled."""
    left = [lever for lever in LEVERS if lever.NAME not in levers]
    return tuple(
        {field for lever in left for option in lever.options(what, where) for field in option.changes}
    )


def some(most: int) -> st.SearchStrategy[set[str]]:
    """Names of a few levers."""
    return st.sets(st.sampled_from([lever.NAME for lever in LEVERS]), min_size=1, max_size=most)


def cheapest(
    what: Workload, allow: Harm, where: Target, estimator: Estimator, levers: set[str]
) -> tuple[Harm, int, int, float, int, int] | None:
    """The best price and memory by trying everything, without any of the search's shortcuts."""
    found = []
    free = [lever for lever in LEVERS if lever.NAME in levers]
    for combination in product(*((None, *lever.options(what, where)) for lever in free)):
        options = [option for option in combination if option is not None]
        harm = max((option.harm for option in options), default=Harm.EXACT)
        after = what
        for option in options:
            for field, value in option.changes.items():
                after = after.changed(field, value)
        if not compatible(after):
            continue
        high = estimator(after, where).device.high
        if harm <= allow and high <= where.limit:
            changes = sum(len(option.changes) for option in options)
            degree = sum(option.degree for option in options)
            packages = len({name for option in options for name in option.requires})
            time = round(slowdown(what, after, where), 2)
            found.append((harm, degree, packages, time, changes, int(high)))
    return min(found, default=None)


@settings(max_examples=150, deadline=None)
@given(what=workloads, mib=limits, allow=harms, levers=some(5))
def test_the_plan_is_the_one_brute_force_finds(
    what: Workload, mib: int, allow: Harm, levers: set[str]
) -> None:
    where = target(mib)
    policy = Policy(target=where, margin=Bytes(0), allow=allow, keep=pulled(what, where, levers))
    found = Search(what, policy, estimate)
    best = found.best()
    expected = cheapest(what, allow, where, estimate, levers)
    assert (None if best is None else (*best.price, found.high(best))) == expected


@settings(max_examples=15, deadline=None)
@given(what=tiny, gpu=gpus, share=st.integers(40, 99), allow=harms, levers=some(3))
def test_with_the_simulator_too_the_plan_is_the_one_brute_force_finds(
    what: Workload, gpu: Target, share: int, allow: Harm, levers: set[str]
) -> None:
    peak = simulate(what, gpu).device.high - gpu.context
    where = replace(gpu, free=Bytes(gpu.context + peak * share // 100))
    policy = Policy(target=where, margin=Bytes(0), allow=allow, keep=pulled(what, where, levers))
    best = (found := Search(what, policy, simulate, floor=least)).best()
    expected = cheapest(what, allow, where, simulate, levers)
    assert (None if best is None else (*best.price, found.high(best))) == expected


@settings(max_examples=40, deadline=None)
@given(
    what=tiny,
    gpu=gpus,
    micros=st.tuples(st.integers(1, 8), st.integers(1, 8)).map(sorted),
    lengths=st.tuples(st.integers(1, 300), st.integers(1, 300)).map(sorted),
)
def test_allocated_memory_never_falls_when_batch_or_sequence_grow(
    what: Workload, gpu: Target, micros: list[int], lengths: list[int]
) -> None:
    small, large = (
        simulate(what.changed("batch.micro", micro).changed("sequence.length", length), gpu).device
        for micro, length in zip(micros, lengths, strict=True)
    )
    assert small.peak_allocated <= large.peak_allocated
    assert small.peak_allocated + small.context <= small.process <= small.high


@settings(max_examples=100, deadline=None)
@given(what=workloads, mib=limits, allow=harms, margin=margins)
def test_a_plan_keeps_what_it_promises(what: Workload, mib: int, allow: Harm, margin: str) -> None:
    where = target(mib)
    if margin == "200MiB" and mib <= 200:
        margin = "0%"
    plan = fit(reading(what), where, margin=margin, allow=allow, estimator=estimate, keep=UNCOUNTED)
    again = estimate(plan.after.workload, where)
    changed = what
    for change in plan.changes:
        assert change.before != change.after
        changed = changed.changed(change.field, change.after)

    assert plan.feasible == (again.device.high + plan.margin <= where.limit)
    assert plan.harm <= allow
    assert all(change.harm <= allow for change in plan.changes)
    assert changed == plan.after.workload
    assert changed.batch.micro * changed.batch.accumulation == what.batch.micro * what.batch.accumulation
    if plan.harm is Harm.EXACT:
        same = ("task", "precision", "sequence", "adapter", "quantization", "outputs", "causal_mask")
        assert all(changed.at(field) == what.at(field) for field in same)
    assert plan.feasible or (plan.blocking is not None and plan.after.device.high <= plan.before.device.high)


@settings(max_examples=100, deadline=None)
@given(what=workloads, mib=limits)
def test_alternatives_fit_and_do_no_more_harm_than_the_plan(what: Workload, mib: int) -> None:
    plan = fit(reading(what), target(mib), allow=Harm.BEHAVIOUR, estimator=estimate, keep=UNCOUNTED)
    for other in plan.alternatives:
        assert other.feasible
        assert other.after.device.high <= mib * MIB
        assert other.after.device.high < plan.after.device.high or other.slowdown < plan.slowdown
        assert other.harm <= plan.harm


@settings(max_examples=60, deadline=None)
@given(what=workloads, spread=st.integers(0, 300), mib=limits)
def test_more_room_never_makes_a_plan_worse(what: Workload, spread: int, mib: int) -> None:
    unsure = Counter(spread=spread * MIB)
    small = fit(reading(what), target(mib), estimator=unsure, keep=UNCOUNTED)
    large = fit(reading(what), target(ceil(mib * 1.2)), estimator=unsure, keep=UNCOUNTED)
    assert large.feasible or not small.feasible
    if small.feasible:
        assert (large.harm, round(large.slowdown, 3)) <= (
            small.harm,
            round(small.slowdown, 3),
        ) or not large.changes


@settings(max_examples=40, deadline=None)
@given(what=workloads, mib=limits)
def test_no_workload_is_estimated_twice_by_one_search(what: Workload, mib: int) -> None:
    counter = Counter()
    fit(reading(what), target(mib), estimator=counter, keep=UNCOUNTED)
    assert len(set(counter.asked)) == len(counter.asked)


# Writing what was planned

CONFIG = """\
memplan: 1
model: {{config: {model}}}
batch: {{ micro: {micro},accumulation: {accumulation} }}   # sequences
sequence:
  length:   {length}
attention: '{attention}'   # ü
checkpointing: {checkpointing}
"""


def written(what: Workload, layout: str, newline: str) -> bytes:
    """A native config of the tiny model with the workload's values, in one of several layouts."""
    model = (
        "{model_type: llama, hidden_size: 128, intermediate_size: 352, num_hidden_layers: 2, "
        "num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 1000, max_position_embeddings: 2048}"
    )
    every = what.checkpointing.every
    text = CONFIG.format(
        model=model,
        micro=what.batch.micro,
        accumulation=what.batch.accumulation,
        length=what.sequence.length,
        attention=what.attention,
        checkpointing=what.checkpointing.name if every < 2 else f"{{every: {every}}}",
    )
    return layout.format(text=text).replace("\n", newline).encode()


layouts = st.sampled_from(["{text}", "\ufeff{text}", "# héader\n\n{text}", "{text}# the end"])
newlines = st.sampled_from(["\n", "\r\n"])


@settings(max_examples=60, deadline=None)
@given(what=workloads, mib=limits, layout=layouts, newline=newlines, failing=st.booleans())
def test_a_rewrite_changes_the_planned_bytes_only_and_a_failure_none(
    what: Workload, mib: int, layout: str, newline: str, failing: bool
) -> None:
    original = written(what, layout, newline)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "train.yaml"
        path.write_bytes(original)
        plan = fit(read(path), target(mib), allow=Harm.BEHAVIOUR, estimator=estimate, keep=UNCOUNTED)
        assume(plan.feasible and plan.changes)
        if failing:
            with (
                patch("os.replace", side_effect=OSError(5, "Input/output error")),
                pytest.raises(MemplanError),
            ):
                apply(read(path), plan, backup=True)
            assert [item.name for item in Path(folder).iterdir()] == ["train.yaml"]
            assert path.read_bytes() == original
            return
        apply(read(path), plan)
        text, expected, at = original.decode(), "", 0
        for edit in sorted(plan.edits, key=lambda edit: edit.span):
            expected += text[at : edit.span.start] + edit.replacement
            at = edit.span.end
        assert path.read_bytes() == (expected + text[at:]).encode()
        assert read(path).workload == plan.after.workload
        again = fit(read(path), target(mib), allow=Harm.BEHAVIOUR, estimator=estimate, keep=UNCOUNTED)
        assert (again.changes, apply(read(path), again).written) == ((), False)
