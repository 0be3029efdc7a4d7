"""From a path to a reading: what is found, what is refused, what --set changes, and that nothing escapes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, FileAccessError, InputError, MemplanError, UnknownNameError
from memplan.domain.workload import Adapter, Attention, Checkpointing, Loss, Outputs, Task
from memplan.read import locate, read, reread

EXAMPLES = Path(__file__).parents[2] / "examples"
AXOLOTL = "base_model: meta-llama/Llama-3.2-1B\nmicro_batch_size: 4\n"
NATIVE = "memplan: 1\nmodel: {ref: meta-llama/Llama-3.2-1B}\nbatch: {micro: 4}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text(AXOLOTL)
    return path


def test_a_directory_means_its_manifest_before_its_model(tmp_path: Path) -> None:
    (tmp_path / "other.yml").write_text(AXOLOTL)
    assert locate(tmp_path) == tmp_path / "other.yml"
    (tmp_path / "config.json").write_text("{}")
    assert locate(tmp_path) == tmp_path / "config.json"
    (tmp_path / "memplan.yaml").write_text("memplan: 1\n")
    assert locate(tmp_path) == tmp_path / "memplan.yaml"


def test_of_several_files_the_only_one_that_is_a_config_is_meant(config: Path) -> None:
    (config.parent / "notes.yml").write_text("groceries: [milk]\n")
    (config.parent / "broken.yml").write_text("a: [\n")
    assert read(config.parent).workload.batch.micro == 4


def test_several_configs_in_a_directory_are_all_named(config: Path) -> None:
    (config.parent / "second.yaml").write_text(NATIVE)
    with pytest.raises(InputError) as caught:
        read(config.parent)
    assert "config.yml" in str(caught.value)
    assert "second.yaml" in str(caught.value)


def test_a_directory_without_configs_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError) as caught:
        read(tmp_path)
    assert "memplan.yaml" in str(caught.value.expected)
    assert "config.json" in str(caught.value.expected)


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "  \t\n"])
def test_an_empty_file_is_located(config: Path, text: str) -> None:
    config.write_text(text, encoding="utf-8")
    with pytest.raises(FieldError, match="is empty") as caught:
        read(config)
    assert caught.value.location is not None


@pytest.mark.parametrize(
    "text", ["# only a comment\n", "- a\n- b\n", "hello\n", "{}\n", "a: [1\n", "a: !!python/name:os x\n"]
)
def test_what_is_no_config_is_refused_with_a_place(config: Path, text: str) -> None:
    config.write_text(text)
    with pytest.raises(MemplanError) as caught:
        read(config)
    assert caught.value.location is not None
    for dialect in ("native", "manifest", "axolotl", "hf_config"):
        with pytest.raises(MemplanError):
            read(config, dialect=dialect)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileAccessError, match="does not exist"):
        read(tmp_path / "gone.yml")
    (tmp_path / "binary.yml").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(FileAccessError):
        read(tmp_path / "binary.yml")
    with pytest.raises(MemplanError):
        read("a\0b.yml")
    (tmp_path / "loop.yml").symlink_to(tmp_path / "loop.yml")
    with pytest.raises(FileAccessError):
        read(tmp_path / "loop.yml")


def test_a_program_is_pointed_to_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("width = 4\n")
    with pytest.raises(InputError, match="not a config memplan knows") as caught:
        read(tmp_path / "train.py")
    assert "memplan.yaml" in str(caught.value.hint)


def test_the_dialect_can_be_named(config: Path) -> None:
    assert read(config, dialect="axolotl").dialect == "axolotl"
    with pytest.raises(MemplanError):
        read(config, dialect="native")
    with pytest.raises(UnknownNameError, match="axolotl"):
        read(config, dialect="axolotle")


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(config: Path) -> None:
    plain = read(config).workload
    config.write_bytes(b"\xef\xbb\xbf" + AXOLOTL.replace("\n", "\r\n").encode())
    assert read(config).workload == plain


OVERRIDES = [
    ("batch.micro=2", "batch.micro", 2),
    (" sequence.length = 4_096", "sequence.length", 4096),
    ("task=generate", "task", Task.GENERATE),
    ("attention=eager", "attention", Attention.EAGER),
    ("checkpointing=full", "checkpointing", Checkpointing(every=1)),
    ("checkpointing={every: 2}", "checkpointing", Checkpointing(every=2)),
    ("loss={chunked: 4}", "loss", Loss(kind="chunked", chunks=4)),
    ("adapter={rank: 4, targets: [q_proj]}", "adapter", Adapter(rank=4, targets=("q_proj",))),
    ("adapter=none", "adapter", None),
    ("quantization=none", "quantization", None),
    ("precision.autocast=none", "precision.autocast", None),
    ("precision.params=fp32", "precision.params", Dtype.FP32),
    ("framework.torch=2.10", "framework.torch", "2.10"),
    ("loop.outputs=until_step", "outputs", Outputs.UNTIL_STEP),
    ("attention_mask=true", "causal_mask", True),
]


@pytest.mark.parametrize(("override", "field", "value"), OVERRIDES, ids=[text for text, _, _ in OVERRIDES])
def test_set_replaces_one_value_of_the_reading(
    config: Path, override: str, field: str, value: object
) -> None:
    reading = read(config, overrides=[override])
    assert reading.workload == read(config).workload.changed(field, value)
    assert override in str(reading.origins[field].note)


BAD_OVERRIDES = [
    ("batch.micro", "is not key=value"),
    ("=4", "is not key=value"),
    ("batch.micro=", "is not key=value"),
    ("batch.mirco=2", "no value is called 'batch.mirco'"),
    ("batch.micro=0", "too small"),
    ("batch.micro=2.0", "must be a whole number"),
    ("batch.micro=-3", "too small"),
    ("batch.micro=1e400", "must be a whole number"),
    ("batch.micro=[", "not valid YAML"),
    ("attention=fast", "not one of its values"),
    ("adapter.rank=4", "there is no adapter to change"),
    ("model.ref=x", "no value is called"),
    ("batch.micro=\udcff", "is not text"),
    ("\0=\0", ""),
]


@pytest.mark.parametrize(("override", "message"), BAD_OVERRIDES)
def test_a_wrong_override_is_refused(config: Path, override: str, message: str) -> None:
    with pytest.raises(MemplanError) as caught:
        read(config, overrides=[override])
    assert message in caught.value.message


def test_a_misspelt_override_is_offered_the_nearest(config: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"batch\.micro"):
        read(config, overrides=["batch.mirco=2"])


def test_rereading_takes_the_same_options_and_can_be_given_texts(config: Path) -> None:
    reading = read(config, dialect="axolotl", overrides=["sequence.length=128"])
    assert reread(reading) == reading
    other = reread(reading, {str(config): AXOLOTL.replace("4", "2")})
    assert other.workload == reading.workload.changed("batch.micro", 2)
    assert other.files != reading.files
    relative = os.path.relpath(config)
    assert reread(reading, {relative: AXOLOTL.replace("4", "2")}).workload == other.workload


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(), suffix=st.sampled_from([".yml", ".json"]))
@example(text="base_model: [", suffix=".yml")
@example(text='{"model_type": ' + "[" * 500, suffix=".json")
def test_arbitrary_text_reads_or_is_refused(tmp_path: Path, text: str, suffix: str) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    for dialect in (None, "native", "manifest", "axolotl", "hf_config"):
        try:
            read(path, dialect=dialect)
        except MemplanError as error:
            assert str(error)


REAL = [
    ("config.yml", (EXAMPLES / "axolotl-lora" / "config.yml").read_text()),
    ("config.json", (EXAMPLES / "llama-3.1-8b" / "config.json").read_text()),
    ("memplan.yaml", (EXAMPLES / "neurogen" / "memplan.yaml").read_text()),
    (
        "run.yml",
        NATIVE + "adapter: {rank: 8, targets: [q_proj]}\ncheckpointing: {every: 2}\ntarget: {margin: 5%}\n",
    ),
]
JUNK = [
    *(
        "null",
        "-1",
        "0",
        "1e400",
        "true",
        "''",
        "[]",
        "{}",
        "[[[[1]]]]",
        "99999999999999999999",
        "*x",
        "&x 1",
    ),
    *("<<", "!!binary aGk=", "2026-01-01", "0x10", "1_000", ".nan", "-.inf", "\u0000", "\u2028", "~"),
    *("${oc.env:HOME}", "{{ x }}", "../..", "/etc/passwd", "auto", "full", "none"),
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_config_reads_or_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    name, text = data.draw(st.sampled_from(REAL))
    lines = text.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        line = lines[at]
        kind = data.draw(st.sampled_from(["drop", "repeat", "value", "cut", "key"]))
        junk = data.draw(st.sampled_from(JUNK) | st.text(max_size=6))
        key, colon, _ = line.partition(":")
        lines[at] = {
            "drop": "",
            "repeat": line * 2,
            "value": f"{key}{colon} {junk}\n",
            "cut": line[: data.draw(st.integers(0, len(line)))],
            "key": junk + line.lstrip(),
        }[kind]
    path = tmp_path / name
    path.write_bytes("".join(lines).encode("utf-8", "surrogatepass"))
    try:
        read(path)
    except MemplanError as error:
        assert str(error)
