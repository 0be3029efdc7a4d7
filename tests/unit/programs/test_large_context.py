"""What is foretold of a decoder with a large context, beside what torch does, and how it is planned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from memplan.apply import apply
from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError
from memplan.domain.estimate import Estimate, Verdict
from memplan.domain.harm import Harm
from memplan.domain.setting import Scalar, whole, word
from memplan.domain.target import Target
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Workload
from memplan.estimate import estimate
from memplan.estimate.mechanism import trace_of
from memplan.fit import fit
from memplan.mechanisms.context import rows
from memplan.programs import large_context
from memplan.programs.context_cache import BITS, Row
from memplan.read import read
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import replay
from memplan.smoke.cpu.events import Events
from memplan.smoke.meter import Deaf
from memplan.smoke.systems.large_context import SMALL, scaled, start

SMALLEST: dict[str, Scalar] = {
    "layers": 2,
    "heads": 2,
    "head_dim": 16,
    "hidden": 48,
    "vocab": 100,
    "context": 600,
}
LARGE: dict[str, Scalar] = {
    "layers": 24,
    "heads": 16,
    "hidden": 1024,
    "vocab": 50257,
    "context": 131072,
}
RAM = Target.of_host(Bytes(16 * 2**30))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small products are faster on one thread than on several that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def complete(**given: Scalar) -> dict[str, Scalar]:
    defaults = {item.name: item.default for item in large_context.SETTINGS if item.default is not None}
    return {**defaults, **given}


def model(**given: Scalar) -> DeclaredModel:
    return DeclaredModel(tensors=(), values=tuple(complete(**given).items()), mechanism=large_context.NAME)


def needs(**given: Scalar) -> Estimate:
    return estimate(Workload(model=model(**given)), RAM)


def seen(settings: dict[str, Scalar]) -> Trace:
    """The second round of the real thing, allocation by allocation."""
    running = start(settings)
    running.step(Deaf())
    events = Events()
    with events.watching(list(running.tensors())) as found:
        running.step(events)
    return found[0]


def peaks(trace: Trace) -> dict[Phase, int]:
    return {phase: peak.allocated for phase, peak in replay(trace, exact=True).phases.items()}


WRAPPED = 12
"""Bytes of a Python number in an operation of PyTorch's: as a double, and in the element type."""

SCALARS = 64
"""Bytes of numbers by themselves that an optimizer step makes and the program leaves out."""


@pytest.mark.parametrize(
    "given_settings",
    [
        {},
        {"interval": 1},
        {"interval": 2, "layers": 3, "window": 77},
        {"training": False},
        {"training": False, "chunk": 100},
        {"training": False, "chunk": 250, "cache": "mapped"},
        {"training": False, "chunk": 599, "stored": "bf16"},
        {"training": False, "chunk": 100, "stored": "int8", "cache": "mapped"},
        {"training": False, "chunk": 600, "stored": "int4"},
        {"training": False, "hidden": 8, "heads": 4, "head_dim": 64, "stored": "int8"},
        {"training": False, "hidden": 8, "heads": 4, "head_dim": 64, "stored": "int4"},
        {"training": False, "hidden": 8, "heads": 4, "head_dim": 256, "context": 1500},
        {"training": False, "reading": "windows", "window": 200, "stride": 100, "chunk": 50},
        {"training": False, "reading": "windows", "window": 150, "cache": "mapped"},
        {"reading": "none", "window": 128, "interval": 2},
    ],
    ids=str,
)
def test_every_phase_peaks_at_the_foretold_byte(given_settings: dict[str, Scalar]) -> None:
    """But for single numbers of the optimizer."""
    settings = complete(**SMALLEST | given_settings)
    foretold, found = peaks(trace_of(model(**settings), HOST)), peaks(seen(settings))
    assert foretold.keys() == found.keys()
    for phase, peak in found.items():
        assert abs(peak - foretold[phase]) <= (SCALARS if phase is Phase.OPTIMIZER else 0), phase


@given(
    sides=st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from([2, 6, 16]), st.integers(1, 40)),
    context=st.integers(1, 300),
    chunk=st.integers(0, 320),
    stored=st.sampled_from(sorted(BITS)),
    cache=st.sampled_from(["memory", "mapped"]),
)
@example(sides=(1, 1, 2, 1), context=1, chunk=0, stored="int4", cache="memory")
@examples(max_examples=15, deadline=None)
def test_reading_peaks_at_the_foretold_byte_whatever_the_sizes(
    sides: tuple[int, int, int, int], context: int, chunk: int, stored: str, cache: str
) -> None:
    """Odd sizes, chunks that do not divide, one token; of a token or two, more than what is quantized."""
    layers, heads, head_dim, hidden = sides
    settings = complete(
        layers=layers,
        heads=heads,
        head_dim=head_dim,
        hidden=hidden,
        vocab=11,
        context=context,
        chunk=chunk,
        stored=stored,
        cache=cache,
        training=False,
    )
    foretold, found = peaks(trace_of(model(**settings), HOST)), peaks(seen(settings))
    assert foretold.keys() == found.keys()
    for phase, peak in found.items():
        assert 0 <= peak - foretold[phase] <= (WRAPPED if stored in ("int4", "int8") else 0), phase


@given(
    heads=st.integers(1, 40),
    head_dim=st.integers(1, 300).map(lambda half: 2 * half),
    stored=st.sampled_from(sorted(BITS)),
    tokens=st.integers(1, 10_000),
)
def test_a_row_is_as_long_as_the_library_makes_it(
    heads: int, head_dim: int, stored: str, tokens: int
) -> None:
    like = torch.empty((1, heads, 0, head_dim), dtype=torch.bfloat16 if stored == "bf16" else torch.float32)
    real = rows.Row.of(like, like, bits={"int8": 8, "int4": 4}.get(stored, 0))
    foretold = Row(heads=heads, head_dim=head_dim, stored=stored)
    assert foretold.bytes == real.bytes
    assert 0 <= foretold.of(tokens) - tokens * real.bytes < 4096


def test_files_take_what_was_foretold() -> None:
    """Whole pages of every layer."""
    settings = complete(**SMALLEST, training=False, cache="mapped")
    running = start(settings)
    running.step(Deaf())
    (part,) = large_context.disk(settings)
    assert running.disk == part.bytes == large_context.mapped(settings)
    assert large_context.disk(complete(**SMALLEST)) == ()


def test_a_mapped_cache_costs_disk_and_no_memory() -> None:
    """As much of the one as of the other."""
    held, mapped = needs(**LARGE, training=False), needs(**LARGE, training=False, cache="mapped")
    assert mapped.disk == held.component("kv_cache") == 24 * 2**30
    assert held.disk == mapped.component("kv_cache") == 0
    assert mapped.host.mapped == mapped.disk
    assert mapped.needed < held.needed - 19 * 2**30


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("context", [1000, 20_000, 131_072]),
        ("layers", [1, 5, 24]),
        ("heads", [1, 4, 16]),
        ("vocab", [100, 5000, 50_257]),
        ("window", [512, 4096, 8192]),
        ("chunk", [64, 512, 4096]),
    ],
)
def test_memory_never_falls_where_there_is_more(name: str, values: list[int]) -> None:
    base = {**LARGE, "window": 1000, "chunk": 512}
    found = [needs(**{**base, name: value}).needed for value in values]
    assert found == sorted(found)


def test_the_shortest_interval_is_not_the_least_memory() -> None:
    """Between one block and all of them there is a best, and beyond it memory grows again."""
    found = {
        every: needs(**LARGE, window=16384, reading="none", interval=every).needed for every in (1, 6, 24)
    }
    assert found[6] < found[1] < found[24]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"window": 601}, "window: of 601 tokens is wider than the context of 600"),
        ({"reading": "windows", "window": 100, "stride": 101}, "stride: of 101 tokens leaves some"),
        ({"interval": 3}, "interval: is beyond the 2 layers"),
        ({"device": "cuda"}, "device: is for a run in host memory"),
        ({"stored": "int4", "head_dim": 15}, "stored: in groups of numbers wants heads of an even width"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Scalar], said: str) -> None:
    with pytest.raises(FieldError, match=said):
        trace_of(model(**SMALLEST | settings), HOST)


def test_windows_beyond_the_context_matter_only_where_there_are_windows() -> None:
    settings = complete(**SMALLEST, window=700, training=False)
    assert large_context.problem(settings) is None


USER = """\
context:
  window: 0   # all of it
  place: memory  # or mapped
every: 0
"""

MANIFEST = """\
memplan: 1
model:
  mechanism: large_context
  values:
    {layers: 24, heads: 16, hidden: 1024, vocab: 50257, context: 131072,
     window: {file: reader.yaml, key: context.window}, cache: {file: reader.yaml, key: context.place},
     interval: {file: reader.yaml, key: every}}
tunable: [window]
target: {ram: 16GiB}
"""


def config(folder: Path) -> Path:
    (folder / "reader.yaml").write_text(USER)
    (folder / "memplan.yaml").write_text(MANIFEST)
    return folder / "memplan.yaml"


def test_window_interval_and_mapping_are_chosen_for_16_gib_and_written(tmp_path: Path) -> None:
    """Into the user's own file, and no other byte of it; the run then fits, and a second plan is none."""
    reading = read(config(tmp_path))
    plan = fit(reading, RAM)
    assert plan.feasible
    assert {change.field for change in plan.changes} == {"window", "interval", "cache"}
    assert plan.harm is Harm.BEHAVIOUR
    assert plan.after.most <= RAM.limit
    apply(reading, plan)
    after = {change.field: change.after for change in plan.changes}
    assert (tmp_path / "reader.yaml").read_text() == USER.replace(
        "window: 0", f"window: {after['window']}"
    ).replace("place: memory", "place: mapped").replace("every: 0", f"every: {after['interval']}")
    again = fit(read(tmp_path / "memplan.yaml"), RAM)
    assert again.feasible
    assert again.changes == ()


def test_mapping_comes_before_numbers_of_fewer_bits(tmp_path: Path) -> None:
    """It changes nothing; rounding needs to be allowed, and a window that is kept is kept."""
    reading = read(config(tmp_path), overrides=("training=false",))
    plan = fit(reading, RAM, allow=Harm.NUMERIC, keep=["window"])
    assert plan.feasible
    assert plan.harm is Harm.EXACT
    assert [change.field for change in plan.changes] == ["cache"]


def test_what_no_change_makes_fit_names_what_blocks(tmp_path: Path) -> None:
    reading = read(config(tmp_path), overrides=("layers=6",))
    plan = fit(reading, Target.of_host(Bytes(2**30)), brief=True)
    assert not plan.feasible
    assert plan.blocking == "optimizer_state"
    assert plan.after.verdict is Verdict.DOES_NOT_FIT


def test_options_change_the_work_as_they_say() -> None:
    """Checkpoints compute more, shorter windows less, and reading files again and again costs time."""
    base = complete(**LARGE)
    work = large_context.work
    assert work({**base, "interval": 5}) > work(base)
    assert work({**base, "window": 1024}) < work(base)
    read_in_chunks = {**base, "chunk": 512}
    assert work({**read_in_chunks, "cache": "mapped"}) > work(read_in_chunks)
    assert work({**base, "training": False}) < work(base)


def test_what_takes_hours_is_run_in_small() -> None:
    """And what takes seconds as it is."""
    small = complete(**SMALLEST)
    assert scaled(small) == small
    found = scaled(complete(**LARGE, cache="mapped", stored="int8"))
    assert all(whole(found, name) <= most for name, most in SMALL.items())
    assert (word(found, "cache"), word(found, "stored")) == ("mapped", "int8")
    assert large_context.problem(found) is None
