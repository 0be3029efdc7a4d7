"""What oumi configs mean: dotted keys, trainers, FSDP and DeepSpeed, and generation."""

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
from memplan.domain.workload import Attention, Checkpointing, Outputs, Quantization, Task
from memplan.domain.zero import Place
from memplan.read import read

MODEL = 'model: {model_name: "Qwen/Qwen2.5-0.5B", model_max_length: 1024, torch_dtype_str: "bfloat16"}\n'
RECOMPUTED = "enable_gradient_checkpointing: true, gradient_checkpointing_kwargs: {use_reentrant: true}"


def understood(folder: Path, text: str) -> Reading:
    path = folder / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return read(path)


FACTS: list[tuple[str, dict[str, Any]]] = [
    (
        "training: {output_dir: out}\n",
        {
            "batch.micro": 8,
            "batch.accumulation": 1,
            "sequence.length": 1024,
            "precision.params": Dtype.BF16,
            "precision.autocast": None,
            "optimizer.implementation": "foreach",
            "checkpointing": Checkpointing(),
            "adapter": None,
        },
    ),
    (
        "training: {trainer_type: TRL_DPO, per_device_train_batch_size: 2}\n",
        {"batch.micro": 4},
    ),
    (
        "training: {trainer_type: TRL_KTO, trainer_kwargs: {max_length: 300}}\n",
        {"batch.micro": 8, "sequence.length": 300},
    ),
    (
        "training: {trainer_type: OUMI, max_grad_norm: null}\n",
        {
            "outputs": Outputs.KEPT,
            "optimizer.implementation": "fused",
            "optimizer.clipping": False,
        },
    ),
    (
        f"training: {{{RECOMPUTED}}}\n",
        {"checkpointing": Checkpointing(every=1, reentrant=True)},
    ),
    (
        "training: {enable_gradient_checkpointing: true, use_deterministic: true}\n",
        {"checkpointing": Checkpointing()},
    ),
    (
        "training: {use_peft: true}\npeft: {lora_r: 4, lora_target_modules: [all-linear]}\n",
        {"adapter.rank": 4, "adapter.dtype": Dtype.FP32, "quantization": None},
    ),
    (
        "training: {use_peft: true}\npeft: {q_lora: true}\n",
        {"quantization": Quantization(kind="fp4", compute=Dtype.FP32), "adapter.prepare_kbit": True},
    ),
    (
        "training: {use_peft: true}\nfsdp: {enable_fsdp: true}\n"
        "peft: {q_lora: true, bnb_4bit_quant_type: nf4, bnb_4bit_compute_dtype: bfloat16}\n",
        {"quantization.kind": "nf4", "adapter.prepare_kbit": False, "adapter.dtype": Dtype.BF16},
    ),
    ("training: {}\npeft: {q_lora: true}\ndata: {}\n", {"quantization": None}),
    (
        f"training: {{{RECOMPUTED}}}\nfsdp: {{enable_fsdp: true, mixed_precision: bf16}}\n",
        {
            "world.sharding": "fsdp1",
            "checkpointing": Checkpointing(every=1),
            "precision.params": Dtype.FP32,
            "precision.autocast": Dtype.BF16,
        },
    ),
    (
        "training: {seed: 1}\nfsdp: {enable_fsdp: true, sharding_strategy: SHARD_GRAD_OP}\n",
        {
            "world.reshard_after_forward": False,
            "world.backward_prefetch": "pre",
            "world.use_orig_params": True,
        },
    ),
    (
        "training: {use_peft: true}\npeft: {lora_target_modules: [q_proj]}\n"
        "fsdp: {enable_fsdp: true, backward_prefetch: NO_PREFETCH}\n",
        {"world.backward_prefetch": "none", "world.use_orig_params": False},
    ),
    (
        "training: {seed: 1}\ndeepspeed: {enable_deepspeed: true, zero_stage: ZERO_3, precision: BF16, "
        "offload_optimizer: {device: CPU}, reduce_bucket_size: 1000, stage3_prefetch_bucket_size: auto}\n",
        {
            "world.sharding": "zero3",
            "world.zero.optimizer": Place.CPU,
            "world.zero.parameters": Place.GPU,
            "world.zero.reduce_bucket": 1000,
            "precision.autocast": None,
        },
    ),
    ("training: {dataloader_num_workers: auto, save_steps: 0}\n", {"saving.kept": 0, "host.workers": 2}),
]


@pytest.mark.parametrize(("text", "expected"), FACTS, ids=[str(number) for number in range(len(FACTS))])
def test_keys_mean_what_oumi_makes_of_them(tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    found = understood(tmp_path, MODEL + text)
    assert found.dialect == "oumi"
    assert {path: found.workload.at(path) for path in expected} == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("training: {trainer_type: SOMETHING}\n", "no trainer of oumi"),
        ("engine: VLLM\n", "vLLM takes the share"),
        ("engine: TOGETHER\n", "runs elsewhere"),
        ("tasks: [{evaluation_backend: lm_harness}]\n", "batches of other programs"),
        ("tuning: {n_trials: 2}\n", "every trial is another run"),
        ("training: {mixed_precision_dtype: BF16}\n", "needs weights in fp32"),
        ("training: {use_peft: true}\npeft: {q_lora: true, q_lora_bits: 3}\n", "3 bits"),
    ],
)
def test_what_is_not_planned_is_refused_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(FieldError, match=reason) as caught:
        understood(tmp_path, MODEL + text)
    assert caught.value.location is not None
    assert caught.value.location.line >= 2


COLOCATED = "grpo: {use_vllm: true}, trainer_kwargs: {vllm_mode: colocate}"
BEYOND = [
    ("trainer_type: TRL_KTO", "mismatched answers", False),
    ("trainer_type: TRL_GKD", "a teacher model", True),
    ("trainer_type: TRL_GOLD", "a teacher model", True),
    ("trainer_type: VERL_GRPO", "verl's actor", True),
    ("trainer_type: TRL_GRPO", "keys and values of the completions", False),
    (f"trainer_type: TRL_GRPO, {COLOCATED}", "vllm_gpu_memory_utilization", True),
    ("trainer_type: TRL_GRPO, trainer_kwargs: {beta: 0.04}", "a copy of the model", False),
]


@pytest.mark.parametrize(("text", "reason", "unbounded"), BEYOND)
def test_training_that_is_not_simulated_is_read_with_what_it_adds(
    tmp_path: Path, text: str, reason: str, unbounded: bool
) -> None:
    run = understood(tmp_path, f"{MODEL}training: {{{text}}}\n").workload
    assert [gap.unbounded for gap in run.unmodelled if reason in gap.reason] == [unbounded]


def test_an_engine_on_another_machine_takes_nothing_of_this_gpu(tmp_path: Path) -> None:
    text = "training: {trainer_type: TRL_GRPO, grpo: {use_vllm: true, vllm_mode: server}}\n"
    assert len(understood(tmp_path, MODEL + text).workload.unmodelled) == 1


def test_grpo_trains_on_prompts_and_completions_of_their_greatest_lengths(tmp_path: Path) -> None:
    text = "training: {trainer_type: TRL_GRPO, grpo: {max_completion_length: 1000}}\n"
    found = understood(tmp_path, MODEL + text)
    assert found.workload.sequence.length == 512 + 1000
    assert found.batch_harm is Harm.NUMERIC
    assert any("not all bounded" in warning for warning in found.warnings)
    _, advice = edits(found, [("sequence.length", 1512, 512)])
    assert len(advice) == 1


def test_verl_has_sizes_of_its_own_which_are_not_written(tmp_path: Path) -> None:
    sizes = "data: {max_prompt_length: 100, max_response_length: 28}"
    actor = "actor_rollout_ref: {actor: {ppo_micro_batch_size_per_gpu: 3}}"
    text = f"training: {{trainer_type: VERL_GRPO, verl_config_overrides: {{{sizes}, {actor}}}}}\n"
    found = understood(tmp_path, MODEL + text)
    assert (found.workload.batch.micro, found.workload.sequence.length) == (3, 128)
    written, advice = edits(found, [("batch.micro", 3, 1), ("checkpointing", None, None)])
    assert not written
    assert len(advice) == 2


@pytest.mark.parametrize(("policy", "gaps"), [("TRANSFORMER_BASED_WRAP", 0), ("NO_WRAP", 1)])
def test_a_model_that_is_not_wrapped_by_blocks_may_be_gathered_whole(
    tmp_path: Path, policy: str, gaps: int
) -> None:
    text = f"training: {{seed: 1}}\nfsdp: {{enable_fsdp: true, auto_wrap_policy: {policy}}}\n"
    run = understood(tmp_path, MODEL + text).workload
    assert [gap.adds for gap in run.unmodelled] == [988_065_536] * gaps


def test_interpolations_are_text_to_oumi(tmp_path: Path) -> None:
    text = MODEL + "training: {per_device_train_batch_size: '${model.model_max_length}'}\n"
    with pytest.raises(FieldError, match="must be a whole number"):
        understood(tmp_path, text)


def test_without_a_length_the_models_context_is_counted_and_said(tmp_path: Path) -> None:
    found = understood(tmp_path, "model: {model_name: Qwen/Qwen2.5-0.5B}\ntraining: {seed: 1}\n")
    assert found.workload.sequence.length == 32768
    assert any("model.model_max_length is missing" in warning for warning in found.warnings)


def test_the_native_engine_generates_and_its_prompts_fill_the_length(tmp_path: Path) -> None:
    found = understood(tmp_path, MODEL + "engine: NATIVE\ngeneration: {max_new_tokens: 24, batch_size: 4}\n")
    assert found.workload.task is Task.GENERATE
    assert found.workload.batch.micro == 4
    assert found.workload.generate.prompt == 1000
    written, advice = edits(found, [("batch.micro", 4, 2), ("attention", Attention.SDPA, Attention.EAGER)])
    assert not advice
    after = documents.apply(found.document.source, written)
    assert "batch_size: 2" in after
    assert "attn_implementation: eager" in after


def test_new_keys_stand_beside_their_siblings_in_their_section(tmp_path: Path) -> None:
    text = (
        "model:\n  model_name: Qwen/Qwen2.5-0.5B\n  model_max_length: 512  # tokens\ntraining:\n"
        "  per_device_train_batch_size: 4\n  gradient_checkpointing_kwargs:\n    use_reentrant: False\n"
    )
    found = understood(tmp_path, text)
    changes = [
        ("batch.micro", 4, 2),
        ("batch.accumulation", 1, 2),
        ("checkpointing", Checkpointing(), Checkpointing(every=1)),
    ]
    written, advice = edits(found, changes)
    assert not advice
    assert documents.apply(found.document.source, written) == text.replace(
        "size: 4\n",
        "size: 2\n  gradient_accumulation_steps: 2\n  enable_gradient_checkpointing: true\n",
    )
