"""What a program foretells of a loop over tokens, beside what torch allocates, and how it is planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from memplan.apply import apply
from memplan.check import check
from memplan.cli import main
from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.churn import Churn
from memplan.domain.errors import FieldError
from memplan.domain.finding import Level
from memplan.domain.harm import Harm
from memplan.domain.setting import Scalar
from memplan.domain.target import Target
from memplan.estimate.mechanism import trace_of
from memplan.fit import fit
from memplan.programs import buffers
from memplan.read import read
from memplan.simulator.kernels import HOST
from memplan.simulator.replay import replay

SEED: dict[str, Scalar] = {"embedding": 1536, "output": 12288, "vocabulary": 32000, "state": 256}
FORMS = ("per_token", "preallocated", "batched")
KIB = 1024
HOST_MACHINE = Target.of_host(Bytes(2 * 2**30))


def complete(**given: Scalar) -> dict[str, Scalar]:
    defaults = {item.name: item.default for item in buffers.SETTINGS if item.default is not None}
    return {**defaults, **given}


small = st.fixed_dictionaries(
    {
        "tokens": st.integers(1, 9),
        "vocabulary": st.integers(1, 40),
        "embedding": st.integers(1, 40),
        "state": st.integers(1, 40),
        "output": st.integers(1, 40),
        "buffers": st.sampled_from(FORMS),
        "chunk": st.integers(0, 9),
        "decoding": st.sampled_from(["greedy", "sampled"]),
    }
)


@given(small)
@examples(max_examples=20, deadline=None)
def test_every_allocation_is_foretold(given_: dict[str, Scalar]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'memplan[smoke]'")
    from memplan.smoke.cpu.events import Events
    from memplan.smoke.systems.buffers import start

    values = complete(**{**given_, "chunk": min(int(given_["chunk"]), int(given_["tokens"]))})
    torch.manual_seed(0)
    running = start(values)
    events = Events()
    with events.watching(running.tensors()) as found:
        running.step(events)
    foretold = trace_of(DeclaredModel(mechanism="buffers", values=tuple(values.items())), HOST)
    seen, said = (replay(trace, exact=True).phases for trace in (found[0], foretold))
    assert {phase: peak.allocated for phase, peak in said.items()} == {
        phase: peak.allocated for phase, peak in seen.items()
    }
    assert buffers.churn(values) == Churn.of(found[0])


def test_a_token_of_the_seed_makes_54_kib_of_its_own_two_vectors() -> None:
    one = buffers.churn(complete(tokens=1, **SEED))
    vectors = (SEED["embedding"] + SEED["output"]) * 4  # type: ignore[operator]
    assert vectors == 54 * KIB
    # Four results as wide as the state, the logits, the best of them and its index come on top.
    assert one.bytes == vectors + 4 * 256 * 4 + 32000 * 4 + 4 + 8
    assert one.count == 9


@pytest.mark.parametrize("tokens", [100, 500, 1000, 3000])
def test_allocations_grow_with_the_tokens_unless_there_are_buffers(tokens: int) -> None:
    one = buffers.churn(complete(tokens=1, **SEED))
    assert buffers.churn(complete(tokens=tokens, **SEED)) == one.times(tokens)
    assert buffers.churn(complete(tokens=tokens, buffers="preallocated", **SEED)).count == 0
    batched = buffers.churn(complete(tokens=tokens, buffers="batched", chunk=50, **SEED))
    assert batched.count == 1 + 7 * tokens // 50


def test_a_chunk_is_no_longer_than_the_sequence() -> None:
    assert buffers.problem(complete(tokens=8, chunk=9, **SEED)) == ("chunk", "is 9, and there are 8 tokens")
    assert buffers.problem(complete(tokens=8, chunk=8, **SEED)) is None


@given(small)
@examples(deadline=None)
def test_larger_chunks_take_no_longer_and_batches_no_longer_than_tokens(given_: dict[str, Scalar]) -> None:
    tokens = int(given_["tokens"])
    forms = [complete(**{**given_, "buffers": form, "chunk": 0}) for form in FORMS]
    alone, pooled, together = map(buffers.work, forms)
    assert together <= pooled == alone
    chunks = [complete(**{**given_, "buffers": "batched", "chunk": size}) for size in range(1, tokens + 1)]
    times = [buffers.work(values) for values in chunks]
    assert times == sorted(times, reverse=True)


@given(small)
@examples(deadline=None)
def test_what_keeps_every_bit_is_exact_and_other_sums_are_numeric(given_: dict[str, Scalar]) -> None:
    values = complete(**{**given_, "chunk": 0})
    for kind in buffers.options(values):
        for option in kind:
            form = option.changes.get("buffers", values["buffers"])
            same = form == values["buffers"] or {form, values["buffers"]} == {"per_token", "preallocated"}
            assert (option.harm is Harm.EXACT) == same
            assert buffers.problem({**values, **option.changes}) is None


def config(folder: Path, rest: str = "", form: str = "per_token", chunk: int = 0) -> Path:
    (folder / "loop.py").write_text(f'BUFFERS = "{form}"  # where results go\nCHUNK = {chunk}\n')
    path = folder / "memplan.yaml"
    path.write_text(
        "memplan: 1\nmodel:\n  mechanism: buffers\n  values:\n"
        "    {tokens: 100, vocabulary: 50, embedding: 16, state: 8, output: 32,\n"
        f"     buffers: {{file: loop.py, key: BUFFERS}}, chunk: {{file: loop.py, key: CHUNK}}{rest}}}\n"
        "target: {ram: 2GiB}\n"
    )
    return path


def test_the_gate_warns_of_what_every_token_makes_anew(tmp_path: Path) -> None:
    report = check([config(tmp_path)])
    (finding,) = report.findings
    assert (finding.code, finding.level, finding.line) == ("MP011", Level.WARNING, 1)
    assert finding.path == str(tmp_path / "loop.py")
    assert "9 results are made anew for each of 100 tokens: 900 allocations" in finding.message
    assert report.exit_code == 0
    assert not fit(read(config(tmp_path)), HOST_MACHINE).changes


def test_it_fails_where_the_config_refuses_that_and_the_plan_mends_it(tmp_path: Path) -> None:
    path = config(tmp_path, ", may_allocate: false")
    assert check([path]).exit_code == 1
    reading = read(path)
    plan = fit(reading, HOST_MACHINE)
    assert plan.feasible
    assert [(change.field, change.after, change.harm) for change in plan.changes] == [
        ("buffers", "preallocated", Harm.EXACT)
    ]
    apply(reading, plan)
    assert (tmp_path / "loop.py").read_text() == 'BUFFERS = "preallocated"  # where results go\nCHUNK = 0\n'
    assert check([path]).findings == ()
    assert not fit(read(path), HOST_MACHINE).changes


def test_a_chunk_of_one_token_is_no_batch(tmp_path: Path) -> None:
    path = config(tmp_path, ", may_allocate: false", form="batched", chunk=1)
    (finding,) = check([path]).findings
    assert (finding.code, finding.level, finding.line) == ("MP011", Level.ERROR, 2)
    assert check([config(tmp_path, form="batched", chunk=2)]).findings == ()


def test_what_may_not_be_changed_is_said(tmp_path: Path) -> None:
    plan = fit(read(config(tmp_path, ", may_allocate: false")), HOST_MACHINE, keep=["buffers"])
    assert not plan.feasible
    assert plan.offer is not None
    assert "made anew" in plan.offer


def test_batches_that_take_too_much_become_smaller(tmp_path: Path) -> None:
    path = config(tmp_path, form="batched")
    path.write_text(
        path.read_text().replace("tokens: 100, vocabulary: 50", "tokens: 65536, vocabulary: 50000")
    )
    plan = fit(read(path), Target.of_host(Bytes(4 * 2**30)))
    assert plan.feasible
    ((field, after),) = [(change.field, change.after) for change in plan.changes]
    assert field == "chunk"
    assert 2 <= after < 65536


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("tokens: 0", "0 is too small"),
        ("tokens: 4, vocabulary: 9", "embedding is not given"),
        ("tokens: 4, device: cuda", "cuda is not one of its values"),
        ("tokens: 4, buffers: pooled", "pooled is not one of its values"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, values: str, said: str) -> None:
    path = tmp_path / "memplan.yaml"
    path.write_text(f"memplan: 1\nmodel: {{mechanism: buffers, values: {{{values}}}}}\n")
    with pytest.raises(FieldError, match=said) as caught:
        read(path)
    assert caught.value.location is not None


def test_estimates_tell_of_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = config(tmp_path)
    assert main(["estimate", str(path), "--format", "json"]) == 0
    assert [item["code"] for item in json.loads(capsys.readouterr().out)["findings"]] == ["MP011"]
    assert main(["estimate", str(path)]) == 0
    assert "Made anew:" in capsys.readouterr().out
    assert main(["estimate", str(path), "--set", "buffers=preallocated"]) == 0
    assert "Made anew:" not in capsys.readouterr().out
