"""Which settings differ, what each has of the difference, and that the shares sum to the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan import profiles
from memplan.diff import Diff, Side, compare
from memplan.diff.differences import changed, differences
from memplan.domain.target import Target
from memplan.domain.workload import Adapter, Attention, Batch, Checkpointing, Loss, Quantization, Workload
from memplan.estimate import estimate
from memplan.read import read

SHAPE = (
    "{{model_type: llama, hidden_size: 128, intermediate_size: 256, num_hidden_layers: {layers},"
    " num_attention_heads: 4, vocab_size: 1000}}"
)
CONFIG = "memplan: 1\nmodel: {{config: {shape}}}\nbatch: {{micro: {micro}}}\nsequence: {{length: 64}}\n{more}"
DECLARED = """memplan: 1
model:
  tensors: {{table: {{shape: [rows, width], dtype: fp32}}}}
  values: {{rows: {rows}, width: {width}}}
"""


def text(layers: int = 2, micro: int = 1, more: str = "") -> str:
    return CONFIG.format(shape=SHAPE.format(layers=layers), micro=micro, more=more)


def side(folder: Path, name: str, content: str) -> Side:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return Side(label=name, reading=read(path))


def diff(folder: Path, before: str, after: str, target: Target | None = None) -> Diff:
    sides = side(folder, "a.yaml", before), side(folder, "b.yaml", after)
    return compare(*sides, (target, target))


def fields(found: Diff) -> list[list[str]]:
    return [[item.field for item in part.differences] for part in found.shares]


def sums(found: Diff) -> bool:
    old, new = found.old, found.new
    return (
        sum(part.process for part in found.shares) == new.device.process - old.device.process
        and sum(part.allocated for part in found.shares)
        == new.device.peak_allocated - old.device.peak_allocated
        and sum(part.host for part in found.shares) == new.host.peak - old.host.peak
        and sum(part.disk for part in found.shares) == new.disk - old.disk
    )


def test_configs_that_ask_for_the_same_do_not_differ(tmp_path: Path) -> None:
    found = diff(tmp_path, text(), text() + "# a comment\n")
    assert found.shares == ()
    assert not found.grows


def test_every_setting_has_a_share_and_they_sum_to_the_difference(tmp_path: Path) -> None:
    more = "checkpointing: full\nadapter: {kind: lora, rank: 4}\n"
    found = diff(tmp_path, text(), text(layers=3, micro=4, more=more), profiles.target("t4"))
    assert fields(found) == [["model"], ["batch.micro"], ["adapter"], ["checkpointing"]]
    assert found.shares[0].differences[0].notes == ("num_hidden_layers 2 → 3",)
    assert sums(found)


def test_a_part_that_both_have_is_told_setting_by_setting(tmp_path: Path) -> None:
    rank = "adapter: {{kind: lora, rank: {}, dora: {}}}\n"
    found = diff(tmp_path, text(more=rank.format(4, "false")), text(more=rank.format(8, "true")))
    assert fields(found) == [["adapter.rank"], ["adapter.dora"]]


def test_declared_values_are_told_by_name(tmp_path: Path) -> None:
    found = diff(tmp_path, DECLARED.format(rows=8, width=4), DECLARED.format(rows=16, width=2))
    assert fields(found) == [["rows"], ["width"]]
    assert sums(found)


def test_a_setting_that_cannot_be_alone_shares_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memplan.domain.errors import FieldError

    def picky(workload: Workload, target: Target | None = None) -> object:
        if workload.batch.micro == 4 and workload.sequence.length == 64:
            raise FieldError("not without longer sequences")
        return estimate(workload, target)

    monkeypatch.setattr("memplan.diff.estimate", picky)
    after = text(micro=4).replace("length: 64", "length: 128")
    found = diff(tmp_path, text(), after)
    assert fields(found) == [["batch.micro", "sequence.length"]]
    assert sums(found)


def test_models_of_different_families_are_compared_by_what_both_have(tmp_path: Path) -> None:
    other = "{model_type: gpt_neox, hidden_size: 128, num_hidden_layers: 2, num_attention_heads: 4}"
    llama, neox = text(), f"memplan: 1\nmodel: {{config: {other}}}\nsequence: {{length: 64}}\n"
    for before, after in ((llama, neox), (neox, llama)):
        found = diff(tmp_path, before, after)
        assert fields(found)[0] == ["model"]
        assert found.shares[0].differences[0].notes[0].startswith("model_type ")
        assert sums(found)


def test_another_gpu_is_a_share_of_its_own(tmp_path: Path) -> None:
    sides = side(tmp_path, "a.yaml", text()), side(tmp_path, "b.yaml", text(micro=2))
    found = compare(*sides, (profiles.target("t4"), profiles.target("h100-sxm")))
    assert found.shares[0].reason == "another GPU"
    assert fields(found) == [[], ["batch.micro"]]
    assert sums(found)


workloads = st.builds(
    lambda model, micro, accumulation, adapter, quantization, every, loss, attention: Workload(
        model=model,
        batch=Batch(micro=micro, accumulation=accumulation),
        adapter=adapter,
        quantization=quantization,
        checkpointing=Checkpointing(every=every),
        loss=loss,
        attention=attention,
    ),
    st.none(),
    st.integers(1, 4),
    st.integers(1, 3),
    st.none() | st.builds(Adapter, rank=st.integers(1, 8), dora=st.booleans()),
    st.none() | st.builds(Quantization, kind=st.sampled_from(["nf4", "int8"])),
    st.integers(0, 2),
    st.sampled_from([Loss(), Loss(kind="chunked", chunks=2), Loss(kind="fused_linear")]),
    st.sampled_from([Attention.SDPA, Attention.EAGER]),
)


@given(workloads, workloads)
@settings(deadline=None)
def test_making_every_change_gives_the_other_workload(before: Workload, after: Workload) -> None:
    found = differences(before, after)
    for item in found:
        before = changed(before, item)
    assert before == after
    assert len({item.field for item in found}) == len(found)
