"""Which blocks are checkpointed, in the words of each framework that has some."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.errors import FieldError
from memplan.domain.workload import Checkpointing
from memplan.read import read, reread

NATIVE = "memplan: 1\nmodel: {ref: meta-llama/Llama-3.2-1B}\n"
TRAINER = """{{"model_name_or_path": "meta-llama/Llama-3.2-1B", "output_dir": "out", "bf16": true,
  "per_device_train_batch_size": 4{} }}
"""
NEOX = """{{"num_layers": {}, "hidden_size": 512, "num_attention_heads": 8, "seq_length": 2048,
  "max_position_embeddings": 2048, "pos_emb": "rotary", "rotary_pct": 0.25, "no_weight_tying": true,
  "gpt_j_residual": true, "train_micro_batch_size_per_gpu": 4, "checkpoint_activations": true,
  "checkpoint_num_layers": {} }}
"""
TITAN = """[job]
description = "x"
[model]
name = "llama3"
flavor = "debugmodel"
[training]
local_batch_size = 2
[activation_checkpoint]
mode = "none"
"""
TUNE = """model: {_component_: torchtune.models.llama3_2.llama3_2_1b}
checkpointer: {_component_: a.Checkpointer}
tokenizer: {_component_: torchtune.models.llama3.llama3_tokenizer, max_seq_len: 512}
optimizer: {_component_: torch.optim.AdamW}
batch_size: 2
dtype: bf16
custom_sharded_layers: [output]
ac_mode: full
"""


def native(folder: Path, text: str) -> Reading:
    path = folder / "run.yml"
    path.write_text(f"{NATIVE}checkpointing: {text}\n")
    return read(path)


def written(reading: Reading, wanted: Checkpointing) -> str:
    """The file with other checkpointing, checked to be read back as that."""
    made, advice = edits(reading, [("checkpointing", reading.workload.checkpointing, wanted)])
    assert not advice
    text = documents.apply(reading.document.source, made)
    assert reread(reading, {str(reading.path): text}).workload.checkpointing == wanted
    return text


def refused(reading: Reading, wanted: Checkpointing) -> str:
    """Why a file cannot say it."""
    made, advice = edits(reading, [("checkpointing", reading.workload.checkpointing, wanted)])
    assert not made
    return advice[0].message


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{every: 3}", Checkpointing(every=3)),
        ("{every: 2, start: 1}", Checkpointing(every=2, start=1)),
        ("{start: 4}", Checkpointing(every=1, start=4)),
        ("{chunk: 4}", Checkpointing(every=1, chunk=4)),
        ("{chunk: 4, reentrant: true}", Checkpointing(every=1, chunk=4, reentrant=True)),
        ("{blocks: 3}", Checkpointing(every=1, blocks=(0, 1, 2))),
        ("{blocks: [7, 2, 7]}", Checkpointing(every=1, blocks=(2, 7))),
        ("{blocks: 0}", Checkpointing()),
        ("{every: 0, chunk: 2}", Checkpointing()),
        ("{every: 1, chunk: 1}", Checkpointing(every=1)),
    ],
)
def test_a_native_config_says_which_blocks_are_checkpointed(
    text: str, found: Checkpointing, tmp_path: Path
) -> None:
    assert native(tmp_path, text).workload.checkpointing == found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{blocks: 3, every: 2}", "stands beside every"),
        ("{offload: true}", "says nothing"),
        ("{chunk: 0}", "0 is too small"),
        ("{blocks: -1}", "-1 is too small"),
        ("{blocks: [1, x]}", "must be a whole number"),
        ("{block: 3}", "is not a key"),
    ],
)
def test_a_native_config_that_says_it_wrongly_is_pointed_at(
    text: str, complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(FieldError, match=complaint) as caught:
        native(tmp_path, text)
    assert caught.value.location is not None
    assert caught.value.location.line == 3


def _wanted() -> st.SearchStrategy[Checkpointing]:
    flags = {"reentrant": st.booleans(), "offload": st.booleans()}
    numbers = st.integers(1, 9)
    counted = st.builds(Checkpointing, every=numbers, chunk=numbers, start=st.integers(0, 9), **flags)
    blocks = st.sets(st.integers(0, 40), min_size=1).map(lambda found: tuple(sorted(found)))
    named = st.builds(Checkpointing, every=st.just(1), blocks=blocks, **flags)
    return st.one_of(counted, named, st.builds(Checkpointing, **flags))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.sampled_from(("none", "full", "{every: 2}", "{blocks: [1, 3]}")), wanted=_wanted())
def test_whatever_is_written_into_a_native_config_is_read_back(
    before: str, wanted: Checkpointing, tmp_path: Path
) -> None:
    reading = native(tmp_path, before)
    if wanted != reading.workload.checkpointing:
        written(reading, wanted)


def trainer(folder: Path, text: str) -> Reading:
    path = folder / "args.json"
    path.write_text(TRAINER.format(text))
    return read(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            ', "activation_checkpointing": false',
            '"activation_checkpointing_kwargs": {"every_n_layers": 2}',
        ),
        (
            ', "activation_checkpointing": true, "activation_checkpointing_kwargs": {"use_reentrant": false}',
            '"use_reentrant": false, "every_n_layers": 2',
        ),
        (', "gradient_checkpointing": true, "gradient_checkpointing_kwargs": {"every_n_layers": 4}', "2"),
    ],
)
def test_the_trainer_counts_blocks_where_the_file_has_words_of_a_release_that_does(
    before: str, after: str, tmp_path: Path
) -> None:
    text = written(trainer(tmp_path, before), Checkpointing(every=2))
    assert after in text
    assert "true" in text


@pytest.mark.parametrize(
    "wanted",
    [
        Checkpointing(every=1, chunk=2),
        Checkpointing(every=1, blocks=(0, 1)),
        Checkpointing(every=2, start=1),
    ],
)
def test_the_trainer_has_no_words_for_chunks_or_for_some_blocks(
    wanted: Checkpointing, tmp_path: Path
) -> None:
    reading = trainer(tmp_path, ', "activation_checkpointing": false')
    assert "every block or none" in refused(reading, wanted)


def test_an_older_trainer_checkpoints_every_block_or_none(tmp_path: Path) -> None:
    reading = trainer(tmp_path, ', "gradient_checkpointing": false')
    assert "every block or none" in refused(reading, Checkpointing(every=2))


@pytest.mark.parametrize(
    ("layers", "chunk", "found", "unsure"),
    [
        (12, 1, Checkpointing(every=1), False),
        (12, 2, Checkpointing(every=1, chunk=2), False),
        # The first chunk is counted from the embeddings, and so holds more than blocks.
        (13, 3, Checkpointing(every=1, chunk=3, start=1), False),
        (12, 3, Checkpointing(every=1, chunk=3, start=1), True),
        (12, 32, Checkpointing(), False),
        (12, 7, Checkpointing(every=1, chunk=7, start=5), False),
        (11, 7, Checkpointing(), False),
    ],
)
def test_gpt_neox_counts_chunks_from_the_embeddings(
    layers: int, chunk: int, found: Checkpointing, unsure: bool, tmp_path: Path
) -> None:
    path = tmp_path / "neox.yml"
    path.write_text(NEOX.format(layers, chunk))
    workload = read(path).workload
    assert workload.checkpointing == found
    assert any("a chunk" in item.reason for item in workload.unmodelled) is unsure


def test_gpt_neox_gets_no_chunk_that_holds_more_than_blocks(tmp_path: Path) -> None:
    path = tmp_path / "neox.yml"
    path.write_text(NEOX.format(13, 1))
    assert "last blocks" in refused(read(path), Checkpointing(every=1, chunk=2))
    assert "counted from the embeddings" in refused(read(path), Checkpointing(every=1, chunk=3))
    assert '"checkpoint_num_layers": 3' in written(read(path), Checkpointing(every=1, chunk=3, start=1))


@pytest.mark.parametrize(("text", "mode"), [(TITAN, "selective_ac_option"), (TUNE, "ac_option")])
def test_pytorchs_own_trainers_checkpoint_the_last_of_every_few_blocks(
    text: str, mode: str, tmp_path: Path
) -> None:
    path = tmp_path / ("job.toml" if text == TITAN else "recipe.yaml")
    path.write_text(text)
    assert mode in written(read(path), Checkpointing(every=3, start=2))
    assert refused(read(path), Checkpointing(every=3))
    assert refused(read(path), Checkpointing(every=1, chunk=2))
    if text == TUNE:
        assert "ac_mode: none" in written(read(path), Checkpointing())
