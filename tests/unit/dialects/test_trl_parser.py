"""TRL's own parser takes every rewritten config, and finds in it what memplan wrote.

Needs TRL (1.16) and with it transformers; without a GPU. Keys of older releases, and of the projects whose
recipes these are, are left over by the parser as they were before.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.errors import FieldError, FileAccessError, UnknownNameError
from memplan.domain.workload import Attention, Checkpointing
from memplan.read import read

trl = pytest.importorskip("trl", reason="TRL is not installed here")
pytestmark = pytest.mark.filterwarnings("ignore")

WRITTEN = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "attn_implementation",
    "optim",
)

DERIVED = (
    "activation_checkpointing",
    "activation_checkpointing_kwargs",
    "distributed_state",
    "gradient_checkpointing_kwargs",
    "steps_per_generation",
)
"""What the configs work out from others once they are made."""


def parsed(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The values that TRL's scripts would run with, and what their parser does not know."""
    keys = yaml.safe_load(path.read_text("utf-8"))
    preference = "beta" in keys
    config = trl.GRPOConfig if "num_generations" in keys else trl.DPOConfig if preference else trl.SFTConfig
    classes = (trl.ScriptArguments, config, trl.ModelConfig, trl.DatasetMixtureConfig)
    *found, left = trl.TrlParser(classes).parse_args_and_config(
        ["--config", str(path), "--use_cpu", "true"],
        return_remaining_strings=True,
        fail_with_unknown_args=False,
    )
    values = {item.name: getattr(part, item.name) for part in found for item in fields(part)}
    return {name: value for name, value in values.items() if name not in DERIVED}, left


def rewritten(path: Path) -> str:
    """The config with other batch sizes, checkpointing, attention and optimizer, where it can take them."""
    try:
        reading = read(path)
    except (FileAccessError, UnknownNameError):
        reading = read(path, model="meta-llama/Llama-3.2-1B")
    run = reading.workload
    wanted = {
        "batch.micro": run.batch.micro * run.batch.accumulation,
        "batch.accumulation": 1,
        "checkpointing": Checkpointing(every=0 if run.checkpointing.every else 1),
        "attention": Attention.SDPA,
        "optimizer": run.changed("optimizer.name", "paged_adamw_8bit")
        .changed("optimizer.implementation", "for_loop")
        .optimizer,
    }
    asked = [(name, run.at(name), value) for name, value in wanted.items()]
    return documents.apply(reading.document.source, edits(reading, asked)[0])


def test_every_rewritten_config_is_taken_by_trl(corpus: Path, tmp_path: Path) -> None:
    taken = 0
    for entry in json.loads((corpus / "manifest.json").read_text("utf-8")):
        if entry["dialect"] != "trl":
            continue
        path = corpus / entry["file"]
        try:
            text = rewritten(path)
        except FieldError:
            continue
        after = tmp_path / path.name
        after.write_text(text, encoding="utf-8")
        try:
            expected, left = parsed(path)
        except ValueError as error:  # as it stands, for one process
            with pytest.raises(ValueError, match=re.escape(str(error))):
                parsed(after)
            continue
        found, left_after = parsed(after)
        assert left_after == left
        keys = yaml.safe_load(text)
        for name, value in found.items():
            assert value == (keys[name] if name in WRITTEN and name in keys else expected[name]), name
        taken += 1
    assert taken >= 17
