"""Every point of a sweep is the estimate that ``--set`` would give; what cannot be is refused by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan import profiles
from memplan.dialects.reading import Reading
from memplan.domain.architecture import Architecture
from memplan.domain.errors import FieldError, MemplanError, UnknownNameError
from memplan.domain.estimate import Verdict
from memplan.estimate import estimate, estimates
from memplan.read import read
from memplan.sweep import sweep
from memplan.sweep.axes import parse
from memplan.sweep.boundary import boundaries

MODEL = (
    "{model_type: llama, hidden_size: 256, intermediate_size: 512, num_hidden_layers: 4,"
    " num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 8000}"
)
CONFIG = f"""memplan: 1
model: {{config: {MODEL}}}
batch: {{micro: 4, accumulation: 6}}
sequence: {{length: 256}}
"""
TYPES = "[full_attention, sliding_attention, full_attention, sliding_attention]"
PATTERNED = CONFIG.replace(
    MODEL,
    "{model_type: qwen3, hidden_size: 256, intermediate_size: 512, num_hidden_layers: 4, head_dim: 64,"
    " num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 8000, use_sliding_window: true,"
    f" sliding_window: 64, layer_types: {TYPES}}}",
)
DECLARED = """memplan: 1
model:
  tensors: {table: {shape: [rows, 1024], dtype: fp32}}
  values: {rows: 4096}
"""


def config(folder: Path, text: str = CONFIG) -> Reading:
    path = folder / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


@pytest.mark.parametrize(
    ("name", "values", "path"),
    [
        ("micro_batch", "1,3", "batch.micro"),
        ("sequence", "64,512", "sequence.length"),
        ("checkpointing", "none,{every: 2}", "checkpointing"),
        ("attention", "eager,sdpa", "attention"),
        ("optimizer", "sgd,adamw_8bit", "optimizer.name"),
        ("batch.accumulation", "1,2", "batch.accumulation"),
        ("gpus", "1,2", "world.data_parallel"),
    ],
)
def test_a_point_is_the_estimate_of_the_same_override(
    tmp_path: Path, name: str, values: str, path: str
) -> None:
    reading, target = config(tmp_path), profiles.target("gtx1650")
    (axis,) = axes = parse(reading.workload, [f"{name}={values}"])
    assert axis.field == path
    for point in sweep(reading, axes, [target]).points:
        alone = read(reading.path, overrides=[f"{path}={point.settings[0].text}"])
        assert point.estimates == (estimate(alone.workload, target),)


def test_two_axes_give_every_combination_the_last_varying_fastest(tmp_path: Path) -> None:
    reading = config(tmp_path)
    found = sweep(reading, parse(reading.workload, ["micro_batch=1,2", "sequence=64,128"]))
    assert [[item.text for item in point.settings] for point in found.points] == [
        ["1", "64"],
        ["1", "128"],
        ["2", "64"],
        ["2", "128"],
    ]
    assert all(found.at(point.settings) is point for point in found.points)


def test_several_targets_get_what_each_would_get_alone(tmp_path: Path) -> None:
    reading = config(tmp_path)
    targets = [profiles.target(name) for name in ("t4", "rtx3090", "h100-sxm", "16MiB")]
    alone = tuple(estimate(reading.workload, target) for target in targets)
    assert estimates(reading.workload, targets) == alone
    (point,) = sweep(reading, parse(reading.workload, ["micro_batch=4"]), targets).points
    assert point.estimates == alone


def test_layers_are_those_of_a_config_that_says_so(tmp_path: Path) -> None:
    reading = config(tmp_path)
    found = sweep(reading, parse(reading.workload, ["layers=2,6"]))
    for point in found.points:
        text = CONFIG.replace("num_hidden_layers: 4", f"num_hidden_layers: {point.settings[0].text}")
        assert point.estimates == (estimate(config(tmp_path, text).workload),)


def test_a_pattern_over_the_layers_is_continued(tmp_path: Path) -> None:
    reading = config(tmp_path, PATTERNED)
    (axis,) = axes = parse(reading.workload, ["depth=3,6"])
    assert axis.field == "model.num_hidden_layers"
    shapes = [point.estimates[0].workload.model for point in sweep(reading, axes).points]
    short, deep = (shape.layer_types for shape in shapes if isinstance(shape, Architecture))
    assert short == ("full_attention", "sliding_attention", "full_attention")
    assert deep == ("full_attention", "sliding_attention") * 3


def test_a_size_that_contradicts_another_is_refused_by_itself(tmp_path: Path) -> None:
    reading = config(tmp_path)
    first, second = sweep(reading, parse(reading.workload, ["model.num_attention_heads=4,3"])).points
    assert first.refused is None
    assert second.estimates == ()
    assert second.refused is not None
    assert second.verdict(0) is None


def test_a_declared_value_may_be_varied(tmp_path: Path) -> None:
    reading = config(tmp_path, DECLARED)
    found = sweep(reading, parse(reading.workload, ["rows=1024..4096"]))
    assert [int(point.estimates[0].device.peak_allocated) for point in found.points] == [2**22, 2**23, 2**24]


def test_the_boundary_is_the_largest_value_that_fits(tmp_path: Path) -> None:
    reading = config(tmp_path, DECLARED)
    targets = [profiles.target(size) for size in ("8MiB", "100MiB", "1MiB")]
    found = boundaries(sweep(reading, parse(reading.workload, ["rows=1024..4096"]), targets))
    assert [item.target.name for item in found] == ["8MiB", "100MiB", "1MiB"]
    ends = [
        [(row.largest and row.largest.text, row.possible and row.possible.text) for row in item.rows]
        for item in found
    ]
    # The CUDA context is not among the declared tensors: nothing of that size is sure.
    assert ends == [[(None, "2048")], [(None, "4096")], [(None, None)]]


def test_every_row_of_a_boundary_agrees_with_its_points(tmp_path: Path) -> None:
    reading, target = config(tmp_path), profiles.target("gtx1650")
    found = sweep(
        reading, parse(reading.workload, ["micro_batch=1,8,64", "sequence=256,2048,8192"]), [target]
    )
    (boundary,) = boundaries(found)
    for row in boundary.rows:
        fitting = [
            point.settings[1]
            for point in found.points
            if point.settings[0] in row.others and point.verdict(0) is Verdict.FITS
        ]
        assert row.largest == (fitting[-1] if fitting else None)


def test_the_global_batch_stays_where_it_is_held(tmp_path: Path) -> None:
    reading = config(tmp_path)
    found = sweep(reading, parse(reading.workload, ["micro_batch=1,8,16"]), hold=["batch.global"])
    kept = [point.estimates[0].workload.batch.accumulation for point in found.points[:2]]
    assert kept == [24, 3]
    assert found.points[2].refused == "micro-batches of 16 do not make a global batch of 24"
    assert found.notes == ("The global batch stays 24: accumulation follows.",)


def test_it_is_said_that_accumulation_stays(tmp_path: Path) -> None:
    reading = config(tmp_path)
    found = sweep(reading, parse(reading.workload, ["micro_batch=1,8"]))
    assert {point.estimates[0].workload.batch.accumulation for point in found.points} == {6}
    assert "--hold batch.global" in found.notes[0]


def test_sequences_beyond_the_positions_of_the_model_are_noted(tmp_path: Path) -> None:
    reading = config(tmp_path, CONFIG.replace("vocab_size", "max_position_embeddings: 512, vocab_size"))
    inside = sweep(reading, parse(reading.workload, ["sequence=128..512"]))
    past = sweep(reading, parse(reading.workload, ["sequence=128..1024"]))
    assert inside.notes == ()
    (note,) = past.notes
    assert note.startswith("At the longest, sequences are 1024 tokens here but the model")


def test_a_generating_run_is_varied_by_its_prompt(tmp_path: Path) -> None:
    reading = config(tmp_path, CONFIG + "task: generate\n")
    (axis,) = parse(reading.workload, ["sequence=128,256"])
    assert axis.field == "generate.prompt"
    few, many = (point.estimates[0].device.peak_allocated for point in sweep(reading, [axis]).points)
    assert few < many


@pytest.mark.parametrize(
    ("texts", "error", "said"),
    [
        (["micro_batch=0"], FieldError, "too small"),
        (["checkpointing=sometimes"], FieldError, "not one of its values"),
        (["rank=8"], FieldError, "there is no adapter"),
        (["mikro_batch=1..8"], UnknownNameError, "micro_batch"),
        (["layers=many"], FieldError, "takes whole numbers"),
        (["micro_batch=1,2", "batch.micro=3"], FieldError, "varied twice"),
        (["micro_batch=1..200:1", "sequence=1..200:1"], FieldError, "combinations are too many"),
        (["model.nothing=1"], UnknownNameError, "value to vary"),
    ],
)
def test_an_axis_that_makes_no_sense_is_refused_before_anything_is_counted(
    tmp_path: Path, texts: list[str], error: type[MemplanError], said: str
) -> None:
    with pytest.raises(error) as caught:
        parse(config(tmp_path).workload, texts)
    assert said in str(caught.value)


def test_what_cannot_be_held_is_refused(tmp_path: Path) -> None:
    reading = config(tmp_path)
    with pytest.raises(FieldError, match="nothing that can be kept"):
        sweep(reading, parse(reading.workload, ["micro_batch=1"]), hold=["sequence"])
    with pytest.raises(FieldError, match="varied itself"):
        sweep(reading, parse(reading.workload, ["accumulation=1,2"]), hold=["batch.global"])
