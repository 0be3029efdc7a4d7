"""litgpt: what each key means for memory, and how the batch of a GPU follows from the global one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, UnknownNameError
from memplan.domain.workload import Batch, Checkpointing, Optimizer, Precision, Quantization
from memplan.estimate import estimate
from memplan.read import read

CHECKPOINT = "checkpoint_dir: checkpoints/meta-llama/Llama-3.2-1B\n"
LORA = "lora_r: 8\n"
TRAIN = "train: {global_batch_size: 16, micro_batch_size: 4, max_seq_length: 512}\n"
PRETRAIN = "model_name: micro-llama-300M\ntrain: {max_tokens: 10}\n"


def run(folder: Path, text: str, *, gpus: int | None = None) -> Reading:
    path = folder / "run.yaml"
    path.write_text(text)
    return read(path, overrides=[] if gpus is None else [f"world.data_parallel={gpus}"])


MEANINGS: list[tuple[str, str, Any]] = [
    (CHECKPOINT + TRAIN, "batch", Batch(micro=4, accumulation=4)),
    (CHECKPOINT + TRAIN + "devices: 2", "batch", Batch(micro=4, accumulation=2)),
    (CHECKPOINT + TRAIN + "devices: 2\nnum_nodes: 2", "batch", Batch(micro=4, accumulation=1)),
    (CHECKPOINT + "train: {max_seq_length: 512}", "batch", Batch(micro=1, accumulation=16)),
    (PRETRAIN, "batch", Batch(micro=4, accumulation=128)),
    (PRETRAIN, "sequence.length", 2048),
    (CHECKPOINT + TRAIN, "precision", Precision(params=Dtype.FP32, autocast=Dtype.BF16)),
    (CHECKPOINT + TRAIN + "precision: bf16-true", "precision", Precision(params=Dtype.BF16)),
    (CHECKPOINT + TRAIN + "precision: 16-mixed", "precision.autocast", Dtype.FP16),
    (CHECKPOINT + TRAIN + "precision: 32", "precision.autocast", None),
    (CHECKPOINT + TRAIN + "devices: 2", "checkpointing", Checkpointing(every=1)),
    (CHECKPOINT + TRAIN + "devices: 2", "world.sharding", "fsdp1"),
    (CHECKPOINT + TRAIN + LORA + "devices: 2", "world.sharding", "fsdp2"),
    (CHECKPOINT + TRAIN + LORA + "devices: auto", "world.sharding", "none"),
    (PRETRAIN + "devices: 2", "checkpointing", Checkpointing()),
    (CHECKPOINT + TRAIN + LORA, "adapter.targets", ("q_proj", "v_proj")),
    (CHECKPOINT + TRAIN + LORA, "adapter.dropout", 0.05),
    (CHECKPOINT + TRAIN + "lora_head: true", "adapter.targets", ("q_proj", "v_proj", "lm_head")),
    (
        CHECKPOINT + TRAIN + LORA + "precision: bf16-true\nquantize: bnb.nf4",
        "quantization",
        Quantization(kind="nf4", readers=0),
    ),
    (
        CHECKPOINT + TRAIN + LORA + "precision: bf16-true\nquantize: bnb.int8-training",
        "optimizer",
        Optimizer(name="paged_adamw_32bit", implementation="for_loop"),
    ),
    (CHECKPOINT + TRAIN + "optimizer: SGD", "optimizer.name", "sgd"),
    (
        CHECKPOINT + TRAIN + "optimizer: bitsandbytes.optim.PagedAdamW8bit",
        "optimizer.name",
        "paged_adamw_8bit",
    ),
    (
        CHECKPOINT + TRAIN + "optimizer: {class_path: torch.optim.AdamW, init_args: {fused: true}}",
        "optimizer.implementation",
        "fused",
    ),
    (
        CHECKPOINT + TRAIN + "optimizer: {class_path: torch.optim.Adagrad}",
        "optimizer.name",
        "torch.optim.adagrad",
    ),
    (CHECKPOINT + TRAIN + "data: {class_path: x, init_args: {num_workers: 2}}", "host.workers", 2),
]


@pytest.mark.parametrize(("text", "field", "value"), MEANINGS)
def test_a_key_means_this(tmp_path: Path, text: str, field: str, value: object) -> None:
    assert run(tmp_path, text).workload.at(field) == value


REFUSED = [
    (CHECKPOINT + "train: {micro_batch_size: 32}", "global batch of 16"),
    (CHECKPOINT + TRAIN + "quantize: bnb.nf4", "finetune_adapter"),
    (CHECKPOINT + TRAIN + LORA + "quantize: bnb.nf4", "mixed precision"),
    (CHECKPOINT + TRAIN + LORA + "quantize: bnb.nf5", "one of its values"),
    (CHECKPOINT + TRAIN + "precision: fp8", "one of its values"),
    (CHECKPOINT + TRAIN + "lora_query: false\nlora_value: false", "adapts nothing"),
    ("model_name: x\nmodel_config: {n_expert: 8}\ntrain: {max_seq_length: 1}", "not modelled"),
    (
        "model_name: x\nmodel_config: {mlp_class_name: GemmaMLP}\ntrain: {max_seq_length: 1}",
        "neither a Llama",
    ),
]


@pytest.mark.parametrize(("text", "match"), REFUSED)
def test_what_litgpt_would_refuse_is_refused_at_its_place(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(FieldError, match=match) as caught:
        run(tmp_path, text)
    assert caught.value.location is not None


def test_a_model_that_is_not_known_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="micro-llama-300M"):
        run(tmp_path, PRETRAIN.replace("300M", "301M"))
    with pytest.raises(UnknownNameError, match="nobody/Nothing"):
        run(tmp_path, CHECKPOINT.replace("meta-llama/Llama-3.2-1B", "nobody/Nothing") + TRAIN)


def test_a_folder_that_is_not_here_is_taken_by_its_name_and_said_to_be(tmp_path: Path) -> None:
    found = run(tmp_path, CHECKPOINT + TRAIN)
    assert found.origins["model"].how == "assumed"
    assert any("its name says meta-llama/Llama-3.2-1B" in warning for warning in found.warnings)


def test_a_described_model_of_the_default_kind_is_a_neox(tmp_path: Path) -> None:
    text = "model_config: {n_layer: 2, n_embd: 64, n_head: 4, vocab_size: 1000, block_size: 32}\n"
    found = run(tmp_path, "model_name: mine\n" + text + "train: {max_tokens: 1}").workload.model
    assert (found.model_type, found.vocab_size, found.intermediate_size) == ("gpt_neox", 1024, 256)  # type: ignore[union-attr]


def test_gpus_given_on_the_command_line_share_the_global_batch(tmp_path: Path) -> None:
    found = run(tmp_path, CHECKPOINT + TRAIN + "devices: auto", gpus=2)
    assert found.workload.batch == Batch(micro=4, accumulation=2)
    assert found.workload.world.sharding == "fsdp1"


def test_accumulation_that_does_not_follow_from_the_global_batch_is_advice(tmp_path: Path) -> None:
    found = run(tmp_path, CHECKPOINT + TRAIN)
    written, advice = edits(found, [("batch.accumulation", 4, 8)])
    assert not written
    assert "global_batch_size" in advice[0].message


def test_adapters_are_trained_on_shares_of_the_model(tmp_path: Path) -> None:
    alone, spread = (run(tmp_path, CHECKPOINT + TRAIN + LORA + f"devices: {count}") for count in (1, 4))
    assert estimate(spread.workload).device.peak_allocated < estimate(alone.workload).device.peak_allocated
