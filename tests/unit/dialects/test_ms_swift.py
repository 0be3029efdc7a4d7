"""What ms-swift files mean: accumulation that follows from GPUs, LoRA by default, configs it brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError
from memplan.domain.harm import Harm
from memplan.domain.workload import Attention, Checkpointing, Evaluation, Quantization, Task
from memplan.domain.zero import Place
from memplan.read import read

SFT = "model: Qwen/Qwen2.5-0.5B\ntuner_type: lora\nmax_length: 512\n"
FULL = SFT.replace("lora", "full")


def understood(folder: Path, text: str, **options: Any) -> Reading:
    path = folder / "sft.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path, **options)


FACTS: list[tuple[str, dict[str, Any]]] = [
    (
        SFT,
        {
            "batch.micro": 1,
            "batch.accumulation": 16,
            "adapter.rank": 8,
            "adapter.dropout": 0.05,
            "adapter.dtype": Dtype.FP32,
            "precision.params": Dtype.BF16,
            "precision.autocast": Dtype.BF16,
            "checkpointing": Checkpointing(every=1, reentrant=True),
        },
    ),
    (SFT + "per_device_train_batch_size: '3'\n", {"batch.micro": 3, "batch.accumulation": 6}),
    (SFT + "torch_dtype: float32\n", {"precision.autocast": Dtype.FP16}),
    (SFT + "torch_dtype: float32\nfp16: false\n", {"precision.autocast": None}),
    (FULL, {"adapter": None}),
    (SFT + "lora_dtype: bfloat16\n", {"adapter.dtype": Dtype.BF16}),
    (
        SFT + "quant_method: bnb\nquant_bits: 4\n",
        {"quantization": Quantization(kind="nf4", double=True, compute=Dtype.BF16)},
    ),
    (SFT + "attn_impl: flash_attn\n", {"attention": Attention.FLASH_ATTENTION_2}),
    (SFT + "gradient_checkpointing: false\n", {"checkpointing": Checkpointing()}),
    (
        SFT + "deepspeed: zero3_offload\n",
        {
            "world.sharding": "zero3",
            "world.zero.optimizer": Place.CPU,
            "world.zero.parameters": Place.CPU,
            "adapter.dtype": Dtype.BF16,
            "precision.autocast": None,
        },
    ),
    (SFT + "deepspeed: zero2\n", {"world.sharding": "zero2", "world.zero.reduce_bucket": 200_000_000}),
    (
        FULL + "fsdp: fsdp2\n",
        {
            "world.sharding": "fsdp2",
            "world.param_dtype": Dtype.BF16,
            "precision.params": Dtype.FP32,
            "checkpointing": Checkpointing(every=1),
        },
    ),
    (SFT + "val_dataset: [held]\n", {"evaluation": Evaluation(batch=1)}),
    (SFT + "split_dataset_ratio: 0\n", {"evaluation": None}),
    (SFT + "rlhf_type: dpo\n", {"batch.micro": 2}),
    (
        SFT + "ENV: {PYTORCH_CUDA_ALLOC_CONF: 'expandable_segments:True'}\n",
        {"allocator.expandable_segments": True},
    ),
]


@pytest.mark.parametrize(("text", "expected"), FACTS, ids=[str(number) for number in range(len(FACTS))])
def test_keys_mean_what_ms_swift_makes_of_them(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    found = understood(tmp_path, text)
    assert found.dialect == "ms_swift"
    assert {path: found.workload.at(path) for path in expected} == expected


@pytest.mark.parametrize(
    "text",
    [
        "rlhf_type: raft\n",
        "infer_backend: vllm\n",
        "ENV: {PYTORCH_CUDA_ALLOC_CONF: 'max_split_size_mb:no'}\n",
    ],
)
def test_what_is_not_planned_is_refused_at_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(FieldError) as caught:
        understood(tmp_path, SFT + text)
    assert caught.value.location is not None
    assert caught.value.location.line == 4


BEYOND = [
    ("rlhf_type: grpo\n", "keys and values of the completions", False),
    ("rlhf_type: grpo\nuse_vllm: true\n", "vllm_gpu_memory_utilization", True),
    ("rlhf_type: kto\n", "mismatched answers", False),
    ("rlhf_type: rm\n", "instead of a score", False),
    ("rlhf_type: ppo\n", "reward and value models", True),
    ("rlhf_type: gkd\n", "a teacher model", True),
    ("micro_batch_size: 1\n", "Megatron's layers", True),
    ("task_type: seq_cls\n", "instead of a score", False),
    ("task_type: reranker\n", "there are several", True),
    ("tuner_backend: unsloth\n", "Unsloth's kernels", False),
    ("quant_method: hqq\nquant_bits: 4\n", "counted unquantized", False),
    ("ref_model: Qwen/Qwen2.5-1.5B\nrlhf_type: dpo\n", "the reference is another model", True),
    ("deepspeed_autotp_size: 2\n", "whole on each GPU", False),
]


@pytest.mark.parametrize(("text", "reason", "unbounded"), BEYOND)
def test_training_that_is_not_simulated_is_read_with_what_it_adds(
    tmp_path: Path, text: str, reason: str, unbounded: bool
) -> None:
    run = understood(tmp_path, SFT + text).workload
    assert [gap.unbounded for gap in run.unmodelled if reason in gap.reason] == [unbounded]


def test_other_tuners_are_counted_as_lora_and_not_written(tmp_path: Path) -> None:
    found = understood(tmp_path, SFT.replace("tuner_type: lora", "train_type: adalora"))
    assert [gap.unbounded for gap in found.workload.unmodelled] == [True]
    written, advice = edits(found, [("adapter.rank", 8, 4)])
    assert not written
    assert "LoRA is written" in advice[0].message


def test_grpo_trains_on_prompts_and_completions(tmp_path: Path) -> None:
    found = understood(tmp_path, SFT + "rlhf_type: grpo\nmax_completion_length: 100\n")
    assert found.workload.sequence.length == 612
    assert found.batch_harm is Harm.NUMERIC


def test_a_loss_over_the_texts_of_a_micro_batch_makes_another_one_another_experiment(tmp_path: Path) -> None:
    assert understood(tmp_path, SFT + "task_type: embedding\n").batch_harm is Harm.BEHAVIOUR


def test_megatron_counts_a_global_batch_and_is_not_written(tmp_path: Path) -> None:
    found = understood(tmp_path, SFT + "micro_batch_size: 2\nglobal_batch_size: 64\n")
    assert (found.workload.batch.micro, found.workload.batch.accumulation) == (2, 32)
    _, advice = edits(found, [("batch.micro", 2, 1), ("batch.accumulation", 32, 64)])
    assert len(advice) == 2


@pytest.mark.parametrize(
    "text", ["load_data_args: true\nmax_new_tokens: 64\n", "stream: true\nmax_new_tokens: 64\n"]
)
def test_what_swift_infer_is_told_is_a_generation_of_a_model_given_beside(tmp_path: Path, text: str) -> None:
    found = understood(tmp_path, text + "max_batch_size: 4\n", model="Qwen/Qwen2.5-0.5B")
    assert (found.dialect, found.workload.task) == ("ms_swift", Task.GENERATE)
    assert (found.workload.batch.micro, found.workload.generate.new_tokens) == (4, 64)
    written, advice = edits(found, [("batch.micro", 4, 2), ("attention", Attention.SDPA, Attention.EAGER)])
    assert not advice
    after = documents.apply(found.document.source, written)
    assert "max_batch_size: 2\n" in after
    assert "attn_impl: eager" in after
    with pytest.raises(FieldError, match="model is missing"):
        understood(tmp_path, text)


def test_accumulation_that_follows_from_gpus_is_written_only_if_they_are_known(tmp_path: Path) -> None:
    text = SFT + "per_device_train_batch_size: 2\n"
    _, advice = edits(understood(tmp_path, text), [("batch.micro", 2, 1), ("batch.accumulation", 8, 16)])
    assert "--gpus" in advice[0].message
    found = understood(tmp_path, text, overrides=["world.data_parallel=4"])
    assert found.workload.batch.accumulation == 2
    written, advice = edits(found, [("batch.micro", 2, 1), ("batch.accumulation", 2, 4)])
    assert not advice
    after = documents.apply(found.document.source, written)
    assert "per_device_train_batch_size: 1\ngradient_accumulation_steps: 4\n" in after


def test_several_gpus_without_sharding_checkpoint_in_the_newer_way(tmp_path: Path) -> None:
    found = understood(tmp_path, SFT, overrides=["world.data_parallel=2"])
    assert found.workload.checkpointing == Checkpointing(every=1)


def test_what_fsdp_checkpoints_is_not_for_the_file_to_change(tmp_path: Path) -> None:
    found = understood(tmp_path, FULL + "fsdp: fsdp2\n")
    _, advice = edits(found, [("checkpointing", Checkpointing(every=1), Checkpointing())])
    assert "fsdp2.json" in advice[0].message
