"""Formats that are known and not planned: each is told from the others, and says what helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import DIALECTS, detect
from memplan.dialects.foreign import FORMATS, recognised
from memplan.dialects.reading import Document
from memplan.documents import modelfile, yaml
from memplan.documents.source import Source
from memplan.domain.errors import FieldError

SHOWN = [
    ("meta: {}\ncompatible_strategies: []\n", "a vLLM recipe", 1),
    ("x: 1\nservingEngineSpec: {}\n", "a file of a Helm chart", 2),
    ("kind: Pod\napiVersion: v1\n", "a Kubernetes manifest", 2),
    ("model: x\ngpu-memory-utilization: 0.9\n", "a config of a vLLM server", 2),
    ("mem-fraction-static: 0.9\n", "a config of an SGLang server", 1),
    ("max-total-tokens: 4\n", "a config of text-generation-inference", 1),
    ("models:\n  llama:\n    cmd: llama-server\n", "a llama-swap config", 3),
    ("step_scheduler: {}\nmodel: {}\n", "a NeMo Automodel recipe", 1),
    ("policy: {train_micro_batch_size: 1}\n", "a NeMo RL config", 1),
    ("trainer: {}\nmodel: {micro_batch_size: 1}\n", "a NeMo config", 2),
    ("MODEL_ARGS: {}\n", "a list of Megatron-LM's arguments", 1),
    ("defaults: []\nactor_rollout_ref: {}\n", "a verl config", 2),
    ("_target_: verl.workers.config.Actor\n", "a part of a verl config", 1),
    ("device_train_microbatch_size: auto\n", "an llm-foundry config", 1),
    ("icl_tasks: x\n", "an evaluation by llm-foundry", 1),
    ("command: x\nintegrations: []\n", "a job for MosaicML's platform", 2),
    ("tokens: {}\nparallelism: {}\n", "a nanotron config", 1),
    ("job: {}\nmodel: {name: flux}\ntraining: {}\n", "a torchtitan job", 2),
    ("{pipe_parallel_size: 1}\n", "a GPT-NeoX config", 1),
    ("_target_: my.Class\n", "a Hydra config", 1),
    ("model:\n  _target_: my.Class\n", "a Hydra config", 2),
]


def document(text: str) -> Document:
    source = Source.of(text, "run.yaml")
    return Document(path=Path("run.yaml"), source=source, root=yaml.parse(source))


@pytest.mark.parametrize(("text", "name", "line"), SHOWN)
def test_a_format_is_named_at_the_key_that_shows_it(text: str, name: str, line: int) -> None:
    with pytest.raises(FieldError) as caught:
        detect(document(text))
    assert f"is {name}, which memplan does not plan: " in caught.value.message
    assert caught.value.location is not None
    assert caught.value.location.line == line
    assert caught.value.hint


def test_every_format_is_shown_here_or_is_a_language_of_its_own() -> None:
    assert {each.name for each in FORMATS if each.language is None} == {name for _, name, _ in SHOWN}


def test_a_modelfile_is_told_by_its_language() -> None:
    source = Source.of("FROM llama3\n", "Modelfile")
    found = recognised(Document(path=Path("Modelfile"), source=source, root=modelfile.parse(source)))
    assert found is not None
    assert found.name == "a Modelfile"
    assert recognised(document("from: x\n")) is None


def test_a_dialect_that_knows_a_file_better_goes_first() -> None:
    assert detect(document("base_model: x\nsequence_len: 1\ndefaults: []\n")).NAME == "axolotl"


def test_what_is_shown_by_a_mark_alone_is_no_dialect() -> None:
    assert not {each.name for each in FORMATS} & set(DIALECTS)
