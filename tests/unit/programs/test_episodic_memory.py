"""What a program foretells of an episodic memory, beside what torch does, and how it is planned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError
from memplan.domain.harm import Harm
from memplan.domain.plan import Plan
from memplan.domain.setting import Scalar
from memplan.domain.trace import Trace
from memplan.domain.workload import Task, Workload
from memplan.estimate import estimate
from memplan.estimate.mechanism import trace_of
from memplan.fit import fit
from memplan.mechanisms import episodic
from memplan.mechanisms.episodic.chunks import comparing
from memplan.profiles import target
from memplan.programs import episodic_memory, radix_select
from memplan.read import read
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import replay
from memplan.smoke.cpu.events import Events
from memplan.smoke.systems.episodic_memory import start

SEED: dict[str, Scalar] = {"memory_size": 5000, "key_size": 768, "batch": 8, "sequence": 1024}
NAIVE: dict[str, Scalar] = {**SEED, "similarity": "broadcast", "write_chunk": 0, "read_chunk": 0}
CUBE = 8 * 1024 * 5000 * 768 * 4
AMPERE = (8, 6)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small products are faster on one thread than on several that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def complete(**given: Scalar) -> dict[str, Scalar]:
    defaults = {item.name: item.default for item in episodic_memory.SETTINGS if item.default is not None}
    return {**defaults, **given}


def model(**given: Scalar) -> DeclaredModel:
    return DeclaredModel(tensors=(), values=tuple(complete(**given).items()), mechanism=episodic_memory.NAME)


def workload(**given: Scalar) -> Workload:
    return Workload(model=model(**given), task=Task.GENERATE)


def foretold(given: dict[str, Scalar], capability: tuple[int, int] = HOST) -> Trace:
    return trace_of(model(**given), capability)


def peak(trace: Trace) -> int:
    return int(replay(trace, exact=True).peak.allocated)


def test_the_naive_form_needs_three_tensors_of_which_the_first_already_kills_it() -> None:
    found = foretold(NAIVE, AMPERE)
    large = [tag[2] for block, tag in enumerate(found.tags) if found.sizes[block] == CUBE]
    # Reading and writing, one after the other.
    assert large == ["div", "div", "mul"] * 2
    assert Bytes(CUBE).rounded() == "117 GiB"
    assert 3 * CUBE < peak(found) < 3 * CUBE + 600 * 2**20

    found_on = estimate(workload(**NAIVE), target("rtx3090"))
    assert found_on.device.failure is not None
    assert found_on.device.failure.tried == CUBE


@pytest.mark.parametrize("chunks", [(8, 64), (8, 1024), (0, 0)])
def test_matmul_takes_less_than_a_gigabyte_whatever_the_chunks(chunks: tuple[int, int]) -> None:
    found = foretold({**SEED, "write_chunk": chunks[0], "read_chunk": chunks[1]}, AMPERE)
    assert peak(found) < 10**9


def test_chunks_alone_bring_broadcast_under_three_gibibytes() -> None:
    found = foretold({**SEED, "similarity": "broadcast", "write_chunk": 8, "read_chunk": 64}, AMPERE)
    assert 64 * 5000 * 768 * 4 * 3 < peak(found) < 3 * 2**30


CASES = [
    {"batch": batch, "sequence": sequence, "similarity": form, "write_chunk": write, "read_chunk": read}
    for form in ("matmul", "broadcast")
    for batch, sequence, write, read in ((1, 64, 0, 0), (2, 50, 30, 27), (3, 33, 64, 16), (1, 20, 1, 90))
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(str(value) for value in case.values()))
def test_what_torch_allocates_is_foretold_to_the_byte(case: dict[str, Scalar]) -> None:
    sizes: dict[str, Scalar] = {"memory_size": 600, "key_size": 32, "neighbours": 4, **case}
    torch.manual_seed(0)
    running = start(complete(**sizes, device="cpu"))
    running.step(Deaf())
    events = Events()
    with events.watching(running.tensors()) as found:
        running.step(events)
    assert peak(found[0]) == peak(foretold(sizes))


class Deaf:
    """A meter for the round that nobody looks at."""

    def begin_step(self) -> None: ...

    def enter(self, _phase: Any, /) -> None: ...

    def leave(self, _phase: Any, /) -> None: ...

    def name(self, tensors: Any) -> None: ...


@pytest.mark.parametrize("form", ["matmul", "broadcast"])
def test_the_library_counts_a_chunk_as_the_program_does(form: str) -> None:
    sizes: dict[str, Scalar] = {
        "memory_size": 900,
        "key_size": 64,
        "similarity": form,
        "batch": 1,
        "sequence": 100,
    }
    made = episodic.Settings(capacity=900, key_size=64, similarity=form)
    _, each = comparing(made, 900, 4)
    small, large = (peak(foretold({**sizes, "read_chunk": chunk})) for chunk in (50, 90))
    assert large - small == 40 * each


SMALL = st.integers(1, 40)


@examples(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {name: SMALL for name in ("memory_size", "key_size", "batch", "sequence", "neighbours")}
        | {name: st.integers(0, 60) for name in ("write_chunk", "read_chunk")}
        | {"similarity": st.sampled_from(("matmul", "broadcast"))}
    ),
    st.sampled_from(("memory_size", "key_size", "batch", "sequence", "write_chunk", "read_chunk")),
    st.integers(1, 30),
    st.sampled_from((HOST, AMPERE)),
)
def test_memory_never_falls_when_a_size_or_a_chunk_grows(
    sizes: dict[str, Any], name: str, more: int, capability: tuple[int, int]
) -> None:
    if name.endswith("chunk") and not sizes[name]:
        return
    larger = {**sizes, name: sizes[name] + more}
    assert peak(foretold(larger, capability)) >= peak(foretold(sizes, capability))


@examples(max_examples=40, deadline=None)
@given(
    st.integers(1, 300), st.integers(0, 400), st.integers(0, 400), st.sampled_from(("matmul", "broadcast"))
)
def test_options_change_nothing_but_memory_and_time(queries: int, read: int, write: int, form: str) -> None:
    given_: dict[str, Scalar] = {
        "memory_size": 50,
        "key_size": 8,
        "batch": 1,
        "sequence": queries,
        "read_chunk": read,
        "write_chunk": write,
        "similarity": form,
    }
    forms, *chunks = episodic_memory.options(complete(**given_))
    assert bool(forms) == (form == "broadcast")
    for kind, now in zip(chunks, (read, write), strict=True):
        offered = [next(iter(option.changes.values())) for option in kind]
        assert offered == sorted(offered, reverse=True)
        assert all(0 < value < (min(now, queries) or queries) for value in offered)
        slow = [episodic_memory.work(complete(**{**given_, **option.changes})) for option in kind]
        assert slow == sorted(slow)
    for option in (option for kind in (forms, *chunks) for option in kind):
        assert option.harm is Harm.EXACT
        assert (
            peak(foretold({**given_, **option.changes}, AMPERE)) <= peak(foretold(given_, AMPERE)) + LIBRARY
        )


LIBRARY = 9 * 2**20
"""What cuBLAS takes when something is multiplied at all."""


def config(folder: Path, **given: Scalar) -> Path:
    values = ", ".join(f"{name}: {value}" for name, value in given.items())
    path = folder / "memplan.yaml"
    path.write_text(
        f"memplan: 1\ntask: generate\nmodel:\n  mechanism: episodic_memory\n  values: {{{values}}}\n"
    )
    return path


def planned(folder: Path, gpu: str, **given: Scalar) -> Plan:
    return fit(read(config(folder, **given)), target(gpu))


def test_matmul_is_the_first_answer_and_needs_no_chunks(tmp_path: Path) -> None:
    found = planned(tmp_path, "rtx3090", **NAIVE)
    assert found.feasible
    assert [(change.field, change.after) for change in found.changes] == [("similarity", "matmul")]
    assert found.slowdown < 0.01


def test_a_larger_card_gets_larger_chunks(tmp_path: Path) -> None:
    large: dict[str, Scalar] = {**SEED, "memory_size": 100_000, "write_chunk": 0, "read_chunk": 0}
    chunks = {}
    for name in ("rtx3090", "gtx1650"):
        found = planned(tmp_path, name, **large)
        assert found.feasible
        changes = {change.field: change.after for change in found.changes}
        chunks[name] = changes.get("read_chunk", 8192), changes.get("write_chunk", 8192)
    assert chunks["rtx3090"] == (8192, 8192)
    assert all(0 < small < 8192 for small in chunks["gtx1650"])


@pytest.mark.parametrize(
    ("rows", "length", "split"),
    [
        (20, 19_999, False),
        (20, 20_000, True),
        (21, 10_000, True),
        (80, 7_999, False),
        (81, 5_000, True),
        (199, 4_999, False),
        (200, 3_000, True),
        (799, 2_999, False),
        (800, 800, True),
        (4_000, 799, False),
        (4_001, 400, True),
        (4_001, 399, False),
    ],
)
def test_long_rows_are_split_among_blocks(rows: int, length: int, split: bool) -> None:
    assert radix_select.splits_rows(rows, length) is split


def test_finding_the_largest_costs_temporaries_on_cuda_only() -> None:
    sizes: dict[str, Scalar] = {
        "memory_size": 5000,
        "key_size": 8,
        "batch": 1,
        "sequence": 1000,
        "read_chunk": 0,
    }
    ops = {tag[2]: prod(tag[3]) * tag[4].itemsize for tag in foretold(sizes, AMPERE).tags}
    assert ops["digit_sums"] == 1000 * 256 * 4
    assert ops["digit_counts"] == 1000 * 5 * 256 * 2
    assert "digit_sums" not in {tag[2] for tag in foretold(sizes).tags}


def test_settings_are_those_of_the_library_where_both_have_them() -> None:
    library = {item.name: item.default for item in dataclasses.fields(episodic.Settings)}
    defaults = complete(memory_size=1, key_size=1)
    for name in ("similarity", "write_chunk", "read_chunk", "neighbours"):
        assert defaults[name] == library[name]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("memory_size", 0, "memory_size"),
        ("key_size", 0, "key_size"),
        ("read_chunk", -1, "read_chunk"),
        ("neighbours", 4096, "neighbours"),
        ("similarity", "euclid", "similarity"),
        ("batch", "many", "batch"),
    ],
)
def test_a_setting_out_of_range_is_refused_where_it_stands(
    tmp_path: Path, name: str, value: Scalar, says: str
) -> None:
    with pytest.raises(FieldError, match=says) as caught:
        read(config(tmp_path, **{**SEED, name: value}))
    assert caught.value.location is not None
    assert caught.value.location.line == 5


def test_a_memory_without_a_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="memory_size"):
        read(config(tmp_path, key_size=768))
