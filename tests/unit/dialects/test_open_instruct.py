"""What open-instruct files say about memory, and what is written into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FileAccessError
from memplan.domain.harm import Harm
from memplan.domain.workload import Attention
from memplan.read import read

HEAD = "model_name_or_path: meta-llama/Llama-3.2-1B\nwith_tracking: true\n"


def tuned(folder: Path, text: str = "", head: str = HEAD) -> Reading:
    path = folder / "tulu.yaml"
    path.write_text(head + text, encoding="utf-8")
    return read(path)


def test_weights_are_bf16_and_what_the_launcher_decides_is_assumed(tmp_path: Path) -> None:
    reading = tuned(tmp_path)
    run = reading.workload
    assert reading.dialect == "open_instruct"
    assert (run.precision.params, run.precision.autocast) == (Dtype.BF16, Dtype.BF16)
    assert reading.origins["precision.autocast"].how == "assumed"
    assert (run.attention, reading.origins["attention"].how) == (Attention.FLASH_ATTENTION_2, "assumed")
    assert (run.batch.micro, run.optimizer.implementation, run.optimizer.clipping) == (8, "fused", False)


@pytest.mark.parametrize(
    ("text", "harm"),
    [
        ("", Harm.NUMERIC),
        ("loss_type: dpo_norm\n", None),
    ],
)
def test_a_loss_averaged_per_micro_batch_depends_on_it(tmp_path: Path, text: str, harm: Harm | None) -> None:
    assert tuned(tmp_path, text).batch_harm is harm


def test_a_balancing_loss_of_experts_is_asked_for(tmp_path: Path) -> None:
    head = HEAD.replace("meta-llama/Llama-3.2-1B", "Qwen/Qwen3-30B-A3B")
    assert tuned(tmp_path, "load_balancing_loss: true\n", head).batch_harm is Harm.BEHAVIOUR
    assert tuned(tmp_path, "", head).batch_harm is Harm.NUMERIC


def test_pairs_are_two_sequences_each_and_written_as_pairs(tmp_path: Path) -> None:
    text = "beta: 5\nper_device_train_batch_size: 2\n"
    reading = tuned(tmp_path, text)
    assert reading.workload.batch.micro == 4
    assert not [gap for gap in reading.workload.unmodelled if "blocks" in gap.grows]
    written, advice = edits(reading, [("batch.micro", 4, 2), ("batch.accumulation", 1, 2)])
    assert not advice
    after = documents.apply(reading.document.source, written).removeprefix(HEAD)
    assert after == "beta: 5\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 2\n"
    _, advice = edits(reading, [("batch.micro", 4, 1), ("batch.accumulation", 1, 4)])
    assert "cannot be divided" in advice[0].message


def test_quantized_weights_have_a_paged_optimizer(tmp_path: Path) -> None:
    run = tuned(tmp_path, "use_lora: true\nuse_qlora: true\nuse_8bit_optimizer: true\n").workload
    assert run.adapter is not None
    assert (run.adapter.rank, run.adapter.dropout, run.adapter.prepare_kbit) == (64, 0.1, True)
    assert len(run.adapter.targets) == 7
    assert (run.optimizer.name, run.quantization is not None) == ("paged_adamw_8bit", True)


def test_a_model_on_somebodys_disk_can_be_named_instead(tmp_path: Path) -> None:
    path = tmp_path / "dpo.yaml"
    path.write_text("model_name_or_path: /model\nwith_tracking: true\nbeta: 5\n", encoding="utf-8")
    with pytest.raises(FileAccessError) as caught:
        read(path)
    assert caught.value.location is not None
    assert caught.value.location.line == 1
    assert "--model" in str(caught.value)
    assert read(path, model="meta-llama/Llama-3.2-1B").workload.batch.micro == 16
