"""What LLaMA-Factory files mean: its defaults, which differ from the Trainer's, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.dtype import Dtype
from memplan.domain.errors import DocumentError, FieldError, MemplanError
from memplan.domain.harm import Harm
from memplan.domain.workload import Attention, Checkpointing, Loss, Outputs, Quantization, Task
from memplan.read import read

MODEL = "model_name_or_path: Qwen/Qwen2.5-0.5B\n"
SFT = f"{MODEL}stage: sft\ndo_train: true\ntemplate: qwen\n"
NEWER = "model: Qwen/Qwen2.5-0.5B\nkernel_config: {name: auto}\n"


def understood(folder: Path, text: str, **options: Any) -> Reading:
    path = folder / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path, **options)


def at(reading: Reading, path: str) -> Any:
    return reading.workload.at(path)


FACTS: list[tuple[str, dict[str, Any]]] = [
    ("", {"batch.micro": 8, "batch.accumulation": 1, "sequence.length": 2048, "adapter.rank": 8}),
    ("", {"checkpointing": Checkpointing(every=1, reentrant=True), "precision.params": Dtype.BF16}),
    ("finetuning_type: full\nbf16: true\n", {"precision.params": Dtype.FP32, "adapter": None}),
    ("finetuning_type: full\npure_bf16: true\n", {"precision.params": Dtype.BF16}),
    ("bf16: true\n", {"precision.autocast": Dtype.BF16, "adapter.dtype": Dtype.FP32}),
    ("pure_bf16: true\n", {"precision.autocast": None, "adapter.dtype": Dtype.FP32}),
    ("disable_gradient_checkpointing: true\n", {"checkpointing": Checkpointing()}),
    ("use_reentrant_gc: false\n", {"checkpointing": Checkpointing(every=1)}),
    ("use_unsloth_gc: true\n", {"checkpointing": Checkpointing(every=1, reentrant=True, offload=True)}),
    (
        "disable_gradient_checkpointing: true\ngradient_checkpointing: true\n",
        {"checkpointing": Checkpointing(every=1)},
    ),
    ("flash_attn: disabled\n", {"attention": Attention.EAGER}),
    ("flash_attn: fa2\nneat_packing: true\n", {"causal_mask": False}),
    ("neat_packing: true\n", {"causal_mask": True}),
    ("enable_liger_kernel: true\n", {"loss.kind": "fused_linear"}),
    ("lora_target: q_proj, v_proj\nlora_rank: 4\n", {"adapter.targets": ("q_proj", "v_proj")}),
    ("additional_target: embed_tokens,lm_head\n", {"adapter.modules_to_save": ("embed_tokens", "lm_head")}),
    (
        "quantization_bit: 4\nbf16: true\n",
        {"quantization": Quantization(kind="nf4", double=True, compute=Dtype.BF16)},
    ),
    (
        "quantization_bit: 4\nfp16: true\ndouble_quantization: false\nquantization_type: fp4\n",
        {"quantization": Quantization(kind="fp4", compute=Dtype.FP16)},
    ),
    ("quantization_bit: 8\n", {"quantization.kind": "int8", "quantization.double": False}),
    ("use_muon: true\n", {"optimizer.name": "muon"}),
    ("stage: dpo\nper_device_train_batch_size: 2\n", {"batch.micro": 4, "loss.kind": "cross_entropy"}),
    ("learning_rate: 1e-4\ncutoff_len: 1_024\n", {"sequence.length": 1024}),
]


@pytest.mark.parametrize(("text", "expected"), FACTS, ids=[str(number) for number in range(len(FACTS))])
def test_keys_mean_what_llamafactory_makes_of_them(
    tmp_path: Path, text: str, expected: dict[str, Any]
) -> None:
    base = SFT.replace("stage: sft\n", "") if "stage" in text else SFT
    found = understood(tmp_path, base + text)
    assert found.dialect == "llamafactory"
    assert {path: at(found, path) for path in expected} == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("quantization_bit: 3\n", 5),
        ("flash_attn: fa4\n", 5),
        ("finetuning_type: vera\n", 5),
        ("stage: grpo\n", 5),
        ("export_dir: out\n", 5),
        ("infer_backend: vllm\n", 5),
    ],
)
def test_what_is_not_planned_is_refused_at_its_line(tmp_path: Path, text: str, line: int) -> None:
    base = SFT.replace("stage: sft", "seed: 1") if "stage" in text else SFT
    with pytest.raises(FieldError) as caught:
        understood(tmp_path, base + text)
    assert caught.value.location is not None
    assert caught.value.location.line == line


BEYOND = [
    ("use_kt: true\n", "use_kt: KTransformers", True),
    ("pipeline_model_parallel_size: 1\n", "Megatron's layers", True),
    ("mixture_of_depths: convert\n", "that no token skips", True),
    ("stage: ppo\n", "the policy shares the GPU", True),
    ("ref_model: Qwen/Qwen2.5-1.5B\nstage: dpo\n", "the reference is another model", True),
    ("stage: kto\n", "mismatched answers", False),
    ("stage: rm\n", "a reward model keeps hidden states", False),
    ("finetuning_type: oft\n", "inputs rotated in fp32", False),
    ("finetuning_type: freeze\n", "only some layers are trained", False),
    ("use_asft_loss: true\n", "its loss keeps the reference's logits", False),
    ("quantization_bit: 4\nquantization_method: hqq\n", "counted unquantized", False),
]


@pytest.mark.parametrize(("text", "reason", "unbounded"), BEYOND)
def test_training_that_is_not_simulated_is_read_with_what_it_adds(
    tmp_path: Path, text: str, reason: str, unbounded: bool
) -> None:
    base = SFT.replace("stage: sft\n", "") if "stage" in text else SFT
    run = understood(tmp_path, base + text).workload
    assert run.task is Task.TRAIN
    assert [gap.unbounded for gap in run.unmodelled if reason in gap.reason] == [unbounded]


@pytest.mark.parametrize(("stage", "sequences"), [("kto", 2), ("ppo", 2), ("rm", 4), ("dpo", 4)])
def test_stages_that_compare_two_answers_take_two_sequences_a_row(
    tmp_path: Path, stage: str, sequences: int
) -> None:
    text = SFT.replace("sft", stage) + "per_device_train_batch_size: 2\nenable_liger_kernel: true\n"
    found = understood(tmp_path, text)
    assert (found.workload.batch.micro, found.workload.loss.kind) == (sequences, "cross_entropy")
    _, advice = edits(found, [("loss", found.workload.loss, Loss(kind="fused_linear"))])
    assert len(advice) == 1


@pytest.mark.parametrize(("tuning", "copies"), [("lora", 0), ("oft", 1), ("full", 1)])
@pytest.mark.parametrize("method", ["stage: kto\n", "stage: dpo\n", "use_asft_loss: true\n"])
def test_only_lora_can_be_switched_off_for_the_reference(
    tmp_path: Path, method: str, tuning: str, copies: int
) -> None:
    base = SFT.replace("stage: sft\n", "") if "stage" in method else SFT
    run = understood(tmp_path, f"{base}finetuning_type: {tuning}\n{method}").workload
    assert sum("a copy of the model is the reference" in gap.reason for gap in run.unmodelled) == copies


@pytest.mark.parametrize(("text", "rank"), [("", 16), ("oft_block_size: 64\n", 32), ("oft_rank: 4\n", 608)])
def test_oft_is_counted_as_lora_with_no_fewer_parameters(tmp_path: Path, text: str, rank: int) -> None:
    found = understood(tmp_path, f"{SFT}finetuning_type: oft\noft_target: q_proj,v_proj\n{text}")
    adapter = found.workload.adapter
    assert adapter is not None
    assert (adapter.kind, adapter.rank, adapter.targets) == ("oft", rank, ("q_proj", "v_proj"))
    assert at(found, "precision.params") is Dtype.BF16
    written, advice = edits(found, [("adapter.rank", rank, 8)])
    assert not written
    assert "LoRA is written" in advice[0].message


def test_a_repeated_key_is_an_error_as_it_is_to_omegaconf(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="OmegaConf"):
        understood(tmp_path, SFT + "cutoff_len: 1\ncutoff_len: 2\n")


def test_interpolated_values_are_read_and_not_edited(tmp_path: Path) -> None:
    found = understood(tmp_path, SFT + "seed: 512\ncutoff_len: ${seed}\n")
    assert found.workload.sequence.length == 512
    written, advice = edits(found, [("sequence.length", 512, 256)])
    assert not written
    assert [item.field for item in advice] == ["sequence.length"]


def test_a_chat_config_is_a_generation_whose_prompt_is_assumed(tmp_path: Path) -> None:
    found = understood(tmp_path, f"{MODEL}template: qwen\ninfer_backend: huggingface\nmax_new_tokens: 64\n")
    assert found.workload.task is Task.GENERATE
    assert found.workload.generate.new_tokens == 64
    assert found.origins["generate.prompt"].how == "assumed"
    assert any("generate.prompt" in warning for warning in found.warnings)


def test_turning_checkpointing_on_writes_the_inverted_key_and_the_newer_kind(tmp_path: Path) -> None:
    found = understood(tmp_path, SFT + "disable_gradient_checkpointing: true  # roomy\n")
    written, advice = edits(found, [("checkpointing", Checkpointing(), Checkpointing(every=1))])
    assert not advice
    assert documents.apply(found.document.source, written) == (
        SFT + "disable_gradient_checkpointing: false  # roomy\nuse_reentrant_gc: false\n"
    )


def test_full_training_does_not_silently_become_lora(tmp_path: Path) -> None:
    found = understood(tmp_path, SFT + "finetuning_type: full\n")
    adapter = understood(tmp_path, SFT).workload.adapter
    written, advice = edits(found, [("adapter", None, adapter)])
    assert not written
    assert "finetuning_type: lora" in advice[0].message


def test_a_pair_is_not_divided_between_micro_batches(tmp_path: Path) -> None:
    text = SFT.replace("sft", "dpo") + "per_device_train_batch_size: 2\n"
    found = understood(tmp_path, text)
    written, advice = edits(found, [("batch.micro", 4, 2), ("batch.accumulation", 1, 2)])
    assert not advice
    after = documents.apply(found.document.source, written)
    assert "per_device_train_batch_size: 1\ngradient_accumulation_steps: 2\n" in after
    _, advice = edits(found, [("batch.micro", 4, 1), ("batch.accumulation", 1, 4)])
    assert len(advice) == 2


def test_a_balanced_mixture_makes_another_micro_batch_another_experiment(tmp_path: Path) -> None:
    text = SFT.replace("Qwen/Qwen2.5-0.5B", "mistralai/Mixtral-8x7B-v0.1")
    assert understood(tmp_path, text).batch_harm is None
    assert understood(tmp_path, text + "moe_aux_loss_coef: 0.01\n").batch_harm is Harm.BEHAVIOUR


NEWER_FACTS: list[tuple[str, dict[str, Any]]] = [
    ("", {"batch.micro": 1, "batch.accumulation": 1, "precision.params": Dtype.FP32, "adapter": None}),
    ("", {"checkpointing": Checkpointing(every=1), "outputs": Outputs.DROPPED}),
    ("micro_batch_size: 2\nglobal_batch_size: 16\n", {"batch.accumulation": 8}),
    ("dist_config: {name: fsdp2}\n", {"world.sharding": "fsdp2", "world.param_dtype": Dtype.BF16}),
    ("dist_config: {name: fsdp2}\nbf16: false\n", {"world.param_dtype": Dtype.FP32}),
    ("peft_config: {name: lora, r: 16}\n", {"adapter.rank": 16, "adapter.dropout": 0.05}),
    ("peft_config: {name: lora}\n", {"precision.params": Dtype.BF16}),
    (
        "quant_config: {name: bnb, quantization_bit: 4}\n",
        {"quantization": Quantization(kind="nf4", double=True, compute=Dtype.FP16)},
    ),
    ("enable_activation_checkpointing: false\n", {"checkpointing": Checkpointing()}),
    ("dist_config: {name: deepspeed}\n", {"world.sharding": "none"}),
]


@pytest.mark.parametrize(("text", "expected"), NEWER_FACTS)
def test_the_newer_schema_has_defaults_of_its_own(
    tmp_path: Path, text: str, expected: dict[str, Any]
) -> None:
    found = understood(tmp_path, NEWER + text)
    assert found.dialect == "llamafactory"
    assert {path: at(found, path) for path in expected} == expected


def test_the_newer_schema_keeps_its_global_batch_by_writing_the_micro_batch_alone(tmp_path: Path) -> None:
    text = NEWER + "micro_batch_size: 4\nglobal_batch_size: 16\n"
    found = understood(tmp_path, text)
    written, advice = edits(found, [("batch.micro", 4, 2), ("batch.accumulation", 4, 8)])
    assert not advice
    assert documents.apply(found.document.source, written) == text.replace("size: 4", "size: 2")


def test_a_global_batch_is_written_only_if_the_number_of_gpus_is_known(tmp_path: Path) -> None:
    text = NEWER + "micro_batch_size: 4\n"
    changes = [("batch.micro", 4, 2), ("batch.accumulation", 1, 2)]
    _, advice = edits(understood(tmp_path, text), changes)
    assert "--gpus" in advice[0].message
    found = understood(tmp_path, text, overrides=["world.data_parallel=8"])
    written, advice = edits(found, changes)
    assert not advice
    assert "micro_batch_size: 2\nglobal_batch_size: 32\n" in documents.apply(found.document.source, written)


def test_a_global_batch_that_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MemplanError, match="no multiple of the 3 sequences"):
        understood(tmp_path, NEWER + "micro_batch_size: 3\nglobal_batch_size: 16\n")
