"""Manifests: declared tensors whose values live in other files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.architecture import DeclaredModel, DeclaredTensor, Role
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import AmbiguousKeyError, FileAccessError, MemplanError
from memplan.domain.finding import Level
from memplan.read import listing, read, reread

NEUROGEN = Path(__file__).parents[3] / "examples" / "neurogen"

TRAIN = "class Config:\n    width: int = 64  # wide\n    depth: int = DEPTH * 2\n    size: float = 1.5\n"
TENSORS = "  tensors:\n    table: {shape: [100, width], dtype: bf16}\n"


def project(tmp_path: Path, values: str, tensors: str = TENSORS, rest: str = "") -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "other.yaml").write_text("model:\n  widths: [8, 32]\n")
    (tmp_path / "other.json").write_text('{"model": {"width": 48}}')
    path = tmp_path / "memplan.yaml"
    path.write_text(f"memplan: 1\nmodel:\n{tensors}  values:\n    width: {values}\n{rest}")
    return path


def model_of(path: Path) -> DeclaredModel:
    found = read(path).workload.model
    assert isinstance(found, DeclaredModel)
    return found


@pytest.fixture
def neurogen(tmp_path: Path) -> Path:
    return Path(shutil.copytree(NEUROGEN, tmp_path / "neurogen"))


def test_neurogen_adds_up_to_the_published_sizes(neurogen: Path) -> None:
    assert model_of(neurogen).sizes() == {
        "token_embeddings": 262_144_000,
        "decoder_matrix": 4_194_304_000,
        "brain_modules": 533_330_000 + 8138 * 32768,
        "working_memory": 400_000_000,
    }


def test_neurogen_names_its_target_and_what_may_move(neurogen: Path) -> None:
    reading = read(neurogen)
    assert (reading.gpu, reading.profile) == ("gtx1650", "balanced")
    assert reading.tunable == ("embedding_dim", "output_dim", "max_seq_length")
    assert len(reading.files) == 5


def test_where_files_disagree_the_largest_counts_and_both_places_are_named(neurogen: Path) -> None:
    reading = read(neurogen)
    (finding,) = reading.findings
    assert finding.code == "MP002"
    assert finding.level is Level.WARNING
    assert (Path(finding.path).name, finding.line) == ("train_advanced.py", 24)
    assert "256 here but 512" in finding.message
    assert "train_slimpajama.py:20" in finding.message
    assert dict(reading.workload.model.values)["max_seq_length"] == 512  # type: ignore[union-attr]


def test_a_value_is_rewritten_in_every_place_and_nowhere_else(neurogen: Path) -> None:
    reading = read(neurogen)
    changes = [("embedding_dim", 2048, 768), ("output_dim", 32768, 8192), ("max_seq_length", 512, 256)]
    written, advice = edits(reading, changes)
    assert advice == ()
    places = sorted((Path(edit.path).name, edit.line, edit.before, edit.after) for edit in written)
    assert places == [
        ("BrainOrchestrator.cpp", 28, "32768", "8192"),
        ("BrainOrchestrator.cpp", 29, "32768", "8192"),
        ("neurogen_bindings.cpp", 28, "32768", "8192"),
        ("train_advanced.py", 23, "2048", "768"),
        ("train_slimpajama.py", 19, "2048", "768"),
        ("train_slimpajama.py", 20, "512", "256"),
    ]
    texts = {}
    for slots in reading.slots.values():
        for slot in slots:
            mine = [edit for edit in written if edit.path == slot.source.path]
            texts[slot.source.path] = documents.apply(slot.source, mine)
    again = reread(reading, texts)
    planned = reading.workload
    for name, _, after in changes:
        planned = planned.changed(name, after)
    assert again.workload == planned
    assert again.findings == ()
    assert edits(again, changes) == ((), ())


def test_a_value_that_cannot_be_written_in_one_place_is_written_in_none(tmp_path: Path) -> None:
    path = project(tmp_path, "{files: [{file: train.py, key: width}, {file: shared.yaml, key: copy}]}")
    (tmp_path / "shared.yaml").write_text("base: &w 64\ncopy: *w\n")
    written, advice = edits(read(path), [("width", 64, 32)])
    assert written == ()
    assert [item.field for item in advice] == ["width"]
    assert advice[0].path is not None
    assert advice[0].path.endswith("shared.yaml")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("16", 16),
        ("{file: train.py, key: Config.width}", 64),
        ("{file: other.yaml, key: model.widths.1}", 32),
        ("{file: other.json, key: model.width}", 48),
        ("{files: [{file: train.py, key: width}, {file: other.json, key: model.width}]}", 64),
    ],
)
def test_values_live_in_the_manifest_or_in_any_language(tmp_path: Path, values: str, expected: int) -> None:
    assert model_of(project(tmp_path, values)).value("width") == expected


def test_a_tensor_may_mix_a_fixed_part_a_part_per_value_and_a_shape(tmp_path: Path) -> None:
    tensors = (
        "  tensors:\n    t: {shape: [width, 2], dtype: fp16, bytes: 1kB, per: {width: 3B}, role: buffer}\n"
    )
    model = model_of(project(tmp_path, "10", tensors))
    assert model.tensors == (
        DeclaredTensor(
            name="t",
            role=Role.BUFFER,
            shape=("width", 2),
            dtype=Dtype.FP16,
            fixed=Bytes(1000),
            per=(("width", Bytes(3)),),
        ),
    )
    assert model.sizes()["t"] == 1000 + 30 + 40


BAD_VALUES = [
    ("{file: ../train.py, key: width}", "leads out of the manifest's folder"),
    ("{file: /etc/passwd, key: width}", "leads out of the manifest's folder"),
    ("{file: 'C:\\\\x.py', key: width}", "leads out of the manifest's folder"),
    ("{file: gone.py, key: width}", "gone.py"),
    ("{file: train.py, key: wdith}", "wdith"),
    ("{file: train.py, key: Config.depth}", "must be a whole number, not DEPTH * 2"),
    ("{file: train.py, key: Config.size}", "must be a whole number, not 1.5"),
    ("{file: notes.md, key: width}", "no language memplan rewrites"),
    ("{file: other.yaml, key: model.wdth}", "nothing called 'wdth'"),
    ("{file: other.yaml, key: model}", "is no single value"),
    ("{file: other.yaml, key: model.widths.9}", "nothing called '9'"),
    ("{file: other.yaml, key: model.widths.1, near: x}", "only picks among assignments"),
    ("{file: train.py}", "names no key"),
    ("{key: width}", "names no file"),
    ("{file: train.py, key: width, colour: red}", "colour is not a key"),
    ("{files: []}", "lists no file"),
    ("-4", "too small"),
    ("4.5", "must be a whole number"),
    ("true", "must be a whole number"),
    ("wide", "must be a whole number"),
    ("99999999999999999", "too large"),
]


@pytest.mark.parametrize(("values", "message"), BAD_VALUES, ids=[value for value, _ in BAD_VALUES])
def test_a_value_that_cannot_be_found_is_a_located_error(tmp_path: Path, values: str, message: str) -> None:
    path = project(tmp_path, values)
    (tmp_path / "notes.md").write_text("width = 4\n")
    with pytest.raises(MemplanError) as caught:
        read(path)
    assert message in caught.value.message
    assert caught.value.location is not None
    assert "memplan.yaml:6" in str(caught.value)


def test_an_error_in_a_source_also_names_the_entry_that_led_there(tmp_path: Path) -> None:
    with pytest.raises(MemplanError) as caught:
        read(project(tmp_path, "{file: train.py, key: Config.depth}"))
    assert caught.value.location is not None
    assert caught.value.location.path.endswith("train.py")
    assert caught.value.location.line == 3
    assert "memplan.yaml:6" in str(caught.value.hint)


def test_a_key_of_several_assignments_is_refused_unless_near_picks_one(neurogen: Path) -> None:
    manifest = neurogen / "memplan.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace("key: config.num_outputs, near: Broca", "key: config.num_outputs"))
    with pytest.raises(AmbiguousKeyError) as caught:
        read(neurogen)
    assert "memplan.yaml:21" in str(caught.value)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_text("width = 4\n")
    inner = tmp_path / "inner"
    inner.mkdir()
    path = project(inner, "{file: linked.py, key: width}")
    (inner / "linked.py").symlink_to(outside)
    with pytest.raises(MemplanError, match="link out of the manifest's folder"):
        read(path)


BAD_TENSORS = [
    ("table: {shape: [100, wdith]}", "wdith is not one of its values"),
    ("table: {shape: []}", "has 0 sides"),
    ("table: {shape: [0]}", "0 is too small"),
    ("table: {shape: ['width * 2']}", "is not one of its values"),
    ("table: {shape: 100}", "must be a list"),
    ("table: {}", "has no size"),
    ("table: {bytes: 400}", "has no unit"),
    ("table: {bytes: 400 parsecs}", "not a unit of memory"),
    ("table: {bytes: -4MB}", "not an amount of memory"),
    ("table: {bytes: 9999999TiB}", "more than 1 EiB"),
    ("table: {bytes: 1MB, dtype: fp32}", "without a shape"),
    ("table: {shape: [1], role: weights}", "weights is not one of its values"),
    ("table: {shape: [1], dtype: int4}", "not an element type"),
    ("table: {per: {depth: 4B}}", "depth is not a key memplan knows here"),
    ("'../x': {bytes: 1MB}", "is no name"),
    ("table: {bytes: 1MB}\n    table: {bytes: 2MB}", "given twice"),
]


@pytest.mark.parametrize(("tensor", "message"), BAD_TENSORS, ids=[tensor for tensor, _ in BAD_TENSORS])
def test_a_wrong_tensor_is_a_located_error(tmp_path: Path, tensor: str, message: str) -> None:
    with pytest.raises(MemplanError) as caught:
        read(project(tmp_path, "10", f"  tensors:\n    {tensor}\n"))
    assert message in caught.value.message
    assert caught.value.location is not None


def test_only_declared_values_can_be_tunable(tmp_path: Path) -> None:
    with pytest.raises(MemplanError, match="depth is not one of its values"):
        read(project(tmp_path, "10", rest="tunable: [width, depth]\n"))


def test_an_override_replaces_a_declared_value(tmp_path: Path) -> None:
    reading = read(project(tmp_path, "10"), overrides=["width=20"])
    assert dict(reading.workload.model.values) == {"width": 20}  # type: ignore[union-attr]
    written, advice = edits(reading, [("width", 20, 5)])
    assert written == ()
    assert "--set" in advice[0].message


def test_a_manifest_lists_configs_with_their_targets(tmp_path: Path) -> None:
    path = tmp_path / "memplan.yaml"
    path.write_text(
        "memplan: 1\ntarget: {gpu: t4, margin: 1GiB}\nconfigs:\n"
        "  - {path: a.yml}\n  - {path: b/c.yml, gpu: rtx3090, margin: 10%}\n"
    )
    configs, own = listing(tmp_path)
    assert not own
    assert [(item.path.relative_to(tmp_path).as_posix(), item.gpu, item.margin) for item in configs] == [
        ("a.yml", "t4", "1GiB"),
        ("b/c.yml", "rtx3090", "10%"),
    ]
    assert configs[1].location.line == 5
    with pytest.raises(MemplanError, match="declares no model of its own"):
        read(path)


def test_a_listed_config_outside_the_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "memplan.yaml"
    path.write_text("memplan: 1\nconfigs: [{path: ../a.yml}]\n")
    with pytest.raises(MemplanError, match="leads out"):
        listing(path)


def test_what_is_no_manifest_lists_nothing(neurogen: Path, tmp_path: Path) -> None:
    assert listing(neurogen) == ((), True)
    plain = tmp_path / "run.yml"
    plain.write_text("base_model: x\nmicro_batch_size: 1\n")
    assert listing(plain) == ((), True)


def test_a_file_that_is_missing_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match=r"gone\.py does not exist"):
        read(project(tmp_path, "{file: gone.py, key: width}"))
