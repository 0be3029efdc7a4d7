"""oumi's own dataclasses take every rewritten config, and hold what memplan wrote.

Needs oumi (0.9) and OmegaConf; without a GPU and without the models.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import asdict
from enum import Enum
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


@pytest.fixture(scope="module")
def configs() -> Any:
    """``oumi.core.configs``."""
    try:
        return importlib.import_module("oumi.core.configs")
    except ImportError as error:
        pytest.skip(f"oumi is not installed here: {error}")


def rewritten(path: Path) -> tuple[str, Task]:
    """The config with other sizes, checkpointing, attention and optimizer, where it can take them."""
    reading = understood(path)
    run = reading.workload
    wanted = {
        "batch.micro": run.batch.micro * run.batch.accumulation,
        "batch.accumulation": 1,
        "sequence.length": 512,
        "checkpointing": Checkpointing(every=0 if run.checkpointing.every else 1),
        "attention": Attention.EAGER,
        "optimizer": run.changed("optimizer.name", "paged_adamw_8bit")
        .changed("optimizer.implementation", "for_loop")
        .optimizer,
    }
    asked = [(name, run.at(name), value) for name, value in wanted.items()]
    return documents.apply(reading.document.source, edits(reading, asked)[0]), run.task


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by its dotted key; what no mapping holds is one value."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value.value if isinstance(value, Enum) else value


def test_every_rewritten_config_is_taken_by_oumi(corpus: Path, tmp_path: Path, configs: Any) -> None:
    taken = 0
    for path in listed(corpus, "oumi"):
        try:
            text, task = rewritten(path)
        except FieldError:
            continue
        schema = configs.TrainingConfig if task is Task.TRAIN else configs.InferenceConfig
        after = tmp_path / path.name
        after.write_text(text, encoding="utf-8")
        expected = dict(flat(asdict(schema.from_yaml(path))))
        found = dict(flat(asdict(schema.from_yaml(after))))
        written = dict(flat(yaml.safe_load(text)))
        before = dict(flat(yaml.safe_load(path.read_text("utf-8"))))
        changed = {name for name, value in written.items() if before.get(name) != value}
        for name, value in found.items():
            if name in changed:
                assert value == written[name], name
            elif name != "training.trainer_kwargs.max_length":  # follows from model_max_length
                assert value == expected[name], name
        taken += 1
    assert taken >= 110
