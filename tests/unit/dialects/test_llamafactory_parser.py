"""LLaMA-Factory's own parser takes every rewritten config, and finds in it what memplan wrote.

Needs LLaMA-Factory (0.9.5), OmegaConf and transformers; without a GPU. Keys that a newer transformers has
dropped are left over by the parser as they were before.
"""

from __future__ import annotations

import importlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.errors import FieldError
from memplan.domain.workload import Attention, Checkpointing, Task

from .test_trainer_corpus import listed, understood

pytestmark = pytest.mark.filterwarnings("ignore")

WRITTEN = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "disable_gradient_checkpointing",
    "use_reentrant_gc",
    "flash_attn",
    "optim",
    "cutoff_len",
    "micro_batch_size",
    "global_batch_size",
    "enable_activation_checkpointing",
)
DERIVED = ("train_batch_size", "eval_batch_size", "distributed_state", "generation_max_length")
NEEDLESS = ("deepspeed", "fsdp", "report_to", "output_dir")
"""What asks for several processes, or writes."""


@pytest.fixture
def parsers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The parsers of both schemas."""
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    try:
        transformers = importlib.import_module("transformers")
        older = importlib.import_module("llamafactory.hparams.parser")
        newer = importlib.import_module("llamafactory.v1.config")
    except ImportError as error:
        pytest.skip(f"LLaMA-Factory is not installed here: {error}")
    sections = ("ModelArguments", "DataArguments", "TrainingArguments", "SampleArguments")
    return {
        "older": transformers.HfArgumentParser(older._TRAIN_ARGS),
        "newer": transformers.HfArgumentParser([getattr(newer, name) for name in sections]),
    }


def parsed(parsers: dict[str, Any], text: str, folder: Path) -> tuple[dict[str, Any], set[str]]:
    """The values LLaMA-Factory would run with, and the keys that the parser does not know."""
    omegaconf = pytest.importorskip("omegaconf", reason="OmegaConf is not installed here")
    keys = omegaconf.OmegaConf.to_container(omegaconf.OmegaConf.create(text))
    older = "model_name_or_path" in keys
    keys = {name: value for name, value in keys.items() if name not in NEEDLESS}
    keys |= {"output_dir": str(folder)}
    keys |= {"report_to": "none", "use_cpu": True} if older else {}
    found = parsers["older" if older else "newer"].parse_dict(keys, allow_extra_keys=True)
    values = {item.name: getattr(part, item.name) for part in found for item in fields(part)}
    return {name: value for name, value in values.items() if name not in DERIVED}, set(keys) - set(values)


def rewritten(path: Path) -> str:
    """The config with other sizes, checkpointing, attention and optimizer, where it can take them."""
    reading = understood(path)
    run = reading.workload
    if run.task is not Task.TRAIN:
        return reading.document.source.text
    wanted = {
        "batch.micro": run.batch.micro * run.batch.accumulation,
        "batch.accumulation": 1,
        "sequence.length": 512,
        "checkpointing": Checkpointing(every=0 if run.checkpointing.every else 1),
        "attention": Attention.FLASH_ATTENTION_2,
        "optimizer": run.changed("optimizer.name", "paged_adamw_8bit")
        .changed("optimizer.implementation", "for_loop")
        .optimizer,
    }
    asked = [(name, run.at(name), value) for name, value in wanted.items()]
    return documents.apply(reading.document.source, edits(reading, asked)[0])


def test_every_rewritten_config_is_taken_by_llamafactory(
    corpus: Path, tmp_path: Path, parsers: dict[str, Any]
) -> None:
    taken = 0
    for path in listed(corpus, "llamafactory"):
        try:
            text = rewritten(path)
        except FieldError:
            continue
        expected, unknown = parsed(parsers, path.read_text("utf-8"), tmp_path)
        found, still_unknown = parsed(parsers, text, tmp_path)
        assert still_unknown == unknown
        keys = yaml.safe_load(text)
        for name, value in found.items():
            if name in WRITTEN and name in keys:
                assert str(getattr(value, "value", value)) == str(keys[name]), name
            else:
                assert value == expected[name], name
        taken += 1
    assert taken >= 25
