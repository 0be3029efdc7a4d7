"""What the levers of loss and optimizer offer for torchtune and litgpt, and how it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.plan import Option
from memplan.levers import Lever, loss, optimizer
from memplan.read import read, reread

TUNE = (
    "model: {_component_: torchtune.models.llama3_2.llama3_2_1b}\n"
    "checkpointer: {_component_: a.Checkpointer}\n"
    "tokenizer: {_component_: torchtune.models.llama3.llama3_tokenizer, max_seq_len: 512}\n"
    "dtype: bf16\n"
)
ADAMW = "optimizer:\n  _component_: torch.optim.AdamW\n  lr: 2e-5\n"
WHOLE = "loss:\n  _component_: torch.nn.CrossEntropyLoss\n"
RECENT = "enable_activation_offloading: False\n"
LIT = (
    "checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B\n"
    "train: {global_batch_size: 16, micro_batch_size: 4, max_seq_length: 512}\n"
)


def outcome(folder: Path, text: str, option: Option) -> tuple[str, str]:
    """The lines that an option adds or changes, and what was refused; what is written reads as planned."""
    path = folder / "recipe.yaml"
    path.write_text(text)
    reading = read(path)
    asked = [(field, reading.workload.at(field), value) for field, value in option.changes.items()]
    written, advice = edits(reading, asked)
    if advice:
        assert not written
        return "", advice[0].message
    after = documents.apply(reading.document.source, written)
    planned = reading.workload
    for field, value in option.changes.items():
        planned = planned.changed(field, value)
    assert reread(reading, {str(path): after}).workload == planned
    return "".join(line for line in after.splitlines(keepends=True) if line not in text), ""


def first(folder: Path, text: str, lever: Lever) -> Option:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return lever.options(read(path).workload, None)[0]


@pytest.mark.parametrize(
    ("text", "lever", "written"),
    [
        (TUNE + ADAMW, optimizer, "  fused: true\n"),
        (TUNE + ADAMW + "  fused: False\n", optimizer, "  fused: True\n"),
        (
            TUNE + ADAMW + WHOLE + RECENT,
            loss,
            "  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss\n",
        ),
        (
            LIT + "optimizer:\n  class_path: torch.optim.AdamW\n  init_args:\n    lr: 2e-4\n",
            optimizer,
            "    fused: true\n",
        ),
    ],
)
def test_the_first_option_is_one_line(tmp_path: Path, text: str, lever: Lever, written: str) -> None:
    assert outcome(tmp_path, text, first(tmp_path, text, lever)) == (written, "")


@pytest.mark.parametrize(
    ("text", "lever", "reason"),
    [
        (TUNE + ADAMW + "  foreach: True\n", optimizer, "exclude each other"),
        (TUNE + ADAMW + WHOLE, loss, "before 0.3"),
        (TUNE + ADAMW + WHOLE + "  reduction: mean\n" + RECENT, loss, "arguments of its own"),
        (TUNE + ADAMW + RECENT + WHOLE.replace("torch.nn", "own"), loss, "stays"),
        (LIT + "optimizer: AdamW\n", optimizer, "no optimizer.init_args"),
    ],
)
def test_what_cannot_be_written_safely_is_refused(
    tmp_path: Path, text: str, lever: Lever, reason: str
) -> None:
    written, refused = outcome(tmp_path, text, first(tmp_path, text, lever))
    assert not written
    assert reason in refused
