"""axolotl's own schema takes every rewritten example, and finds in it what memplan wrote.

Needs axolotl (0.19; its Python files are enough: no GPU, and of its dependencies pydantic and pillow).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.errors import FieldError, FileAccessError, UnknownNameError
from memplan.domain.workload import Attention, Checkpointing
from memplan.read import read

schemas = pytest.importorskip("axolotl.utils.schemas.config", reason="axolotl is not installed here")
pytestmark = pytest.mark.filterwarnings("ignore")

WRITTEN = (
    "micro_batch_size",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "gradient_checkpointing_kwargs",
    "attn_implementation",
    "sequence_len",
)

DERIVED = re.compile("attn_(supports|uses|needs|de[a-z]+)_.*|(flash|sdp|eager|xformers|flex|sage)_attention")
"""What the schema works out from the kind of attention; older flags are put in step."""


def validated(text: str) -> tuple[dict[str, Any], str]:
    """The values the schema makes of a file, or why it refuses it."""
    try:
        return schemas.AxolotlInputConfig(**yaml.safe_load(text)).model_dump(), ""
    except (ValueError, ImportError, DeprecationWarning) as error:
        return {}, re.sub(r"input_value=.*", "", str(error))


def rewritten(path: Path) -> str:
    """The config with other batch sizes, checkpointing, attention and length, where it can take them."""
    reading = read(path)
    run = reading.workload
    wanted = {
        "batch.micro": run.batch.micro * run.batch.accumulation,
        "batch.accumulation": 1,
        "checkpointing": Checkpointing(every=0 if run.checkpointing.every else 1),
        "attention": Attention.SDPA if run.attention is Attention.EAGER else run.attention,
        "sequence.length": run.sequence.length // 2,
    }
    asked = [(name, run.at(name), value) for name, value in wanted.items()]
    return documents.apply(reading.document.source, edits(reading, asked)[0])


def test_every_rewritten_example_is_taken_by_axolotls_schema(axolotl_examples: list[Path]) -> None:
    taken = 0
    for path in axolotl_examples:
        try:
            text = rewritten(path)
        except (FieldError, FileAccessError, UnknownNameError):
            continue
        expected, refusal = validated(path.read_text("utf-8"))
        found, refusal_after = validated(text)
        assert refusal_after == refusal, path.name
        before, keys = yaml.safe_load(path.read_text("utf-8")), yaml.safe_load(text)
        changed = {name for name in WRITTEN if keys.get(name) != before.get(name)}
        for name, value in found.items():
            if DERIVED.fullmatch(name):
                continue
            assert value == (keys[name] if name in changed else expected[name]), (path, name)
        taken += not refusal
    assert taken >= 30
