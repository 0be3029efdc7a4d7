"""What TRL files say about memory, and what is written into them."""

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
from memplan.domain.workload import Attention, Checkpointing
from memplan.read import read

HEAD = "model_name_or_path: meta-llama/Llama-3.2-1B\nlearning_rate: 1.0e-5\ndataset_name: x\n"


def trl(folder: Path, text: str) -> Reading:
    path = folder / "config.yaml"
    path.write_text(HEAD + text, encoding="utf-8")
    return read(path)


def after(reading: Reading, **changes: Any) -> tuple[str, list[str]]:
    asked = [
        (name.replace("__", "."), reading.workload.at(name.replace("__", ".")), value)
        for name, value in changes.items()
    ]
    written, advice = edits(reading, asked)
    text = documents.apply(reading.document.source, written)
    return text.removeprefix(HEAD), [item.message for item in advice]


def test_defaults_are_those_of_the_release_whose_keys_the_file_has(tmp_path: Path) -> None:
    new, old = trl(tmp_path, "").workload, trl(tmp_path, "overwrite_output_dir: true").workload
    assert (new.batch.micro, new.sequence.length, old.batch.micro) == (8, 1024, 8)
    assert (new.precision.params, new.precision.autocast) == (Dtype.FP32, Dtype.BF16)
    assert (old.precision.params, old.precision.autocast) == (Dtype.FP32, None)
    assert (new.checkpointing.every, old.checkpointing.every) == (1, 0)
    assert (new.loss.kind, old.loss.kind) == ("log_probs", "cross_entropy")


def test_fp16_turns_the_default_bf16_off(tmp_path: Path) -> None:
    assert trl(tmp_path, "fp16: true").workload.precision.autocast is Dtype.FP16
    assert trl(tmp_path, "bf16: false").workload.precision.autocast is None


def test_a_pair_of_completions_is_two_sequences_and_is_never_divided(tmp_path: Path) -> None:
    reading = trl(tmp_path, "beta: 0.1\nper_device_train_batch_size: 4\neval_strategy: steps\n")
    run = reading.workload
    assert run.batch.micro == 8
    assert run.evaluation is not None
    assert run.evaluation.batch == 16
    text, advice = after(reading, batch__micro=2, batch__accumulation=4)
    assert text == (
        "beta: 0.1\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 4\neval_strategy: steps\n"
    )
    assert not advice
    text, advice = after(reading, batch__micro=1, batch__accumulation=8)
    assert "cannot be divided" in advice[0]


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("beta: 0.1", True),
        ("beta: 0.1\nprecompute_ref_log_probs: true", False),
        ("beta: 0.1\nuse_peft: true", False),
        ("num_generations: 8\nuse_vllm: true\nvllm_mode: server", False),
        ("num_generations: 8\nuse_vllm: true\nvllm_mode: server\nbeta: 0.04", True),
    ],
)
def test_a_reference_model_widens_the_answer_where_there_is_one(
    tmp_path: Path, text: str, reference: bool
) -> None:
    found = [gap for gap in trl(tmp_path, text).workload.unmodelled if "blocks" in gap.grows]
    assert bool(found) is reference
    if reference:
        assert "config.yaml:" in found[0].reason


@pytest.mark.parametrize(
    "text",
    [
        "desirable_weight: 1.0",
        "center_rewards_coefficient: 0.01",
        "lora_task_type: SEQ_CLS",
        "num_generations: 8\nuse_vllm: true",
    ],
)
def test_methods_with_more_than_the_model_get_no_verdict_and_say_why(tmp_path: Path, text: str) -> None:
    assert any(gap.unbounded for gap in trl(tmp_path, text).workload.unmodelled)


@pytest.mark.parametrize(
    ("text", "harm"),
    [
        ("", None),
        ("beta: 0.1", None),
        ("num_generations: 4", Harm.NUMERIC),
        ("num_generations: 4\nloss_type: bnpo", Harm.BEHAVIOUR),
    ],
)
def test_another_micro_batch_is_another_experiment_in_grpo(
    tmp_path: Path, text: str, harm: Harm | None
) -> None:
    reading = trl(tmp_path, text)
    assert reading.batch_harm is harm
    assert bool(reading.batch_reason) is (harm is not None)


def test_experts_in_balance_make_the_micro_batch_part_of_the_experiment(tmp_path: Path) -> None:
    path = tmp_path / "moe.yaml"
    text = HEAD.replace("meta-llama/Llama-3.2-1B", "Qwen/Qwen3-30B-A3B")
    path.write_text(text, encoding="utf-8")
    assert read(path).batch_harm is Harm.BEHAVIOUR
    path.write_text(text + "router_aux_loss_coef: 0.0\n", encoding="utf-8")
    assert read(path).batch_harm is None


def test_rows_without_padding_need_a_mask_unless_attention_is_flash(tmp_path: Path) -> None:
    rows = trl(tmp_path, "packing: true\n")
    assert rows.workload.causal_mask
    assert any("one row" in warning for warning in rows.warnings)
    flash = trl(tmp_path, "packing: true\nattn_implementation: flash_attention_2\n")
    assert not flash.workload.causal_mask
    _, advice = after(flash, attention=Attention.SDPA)
    assert "exclude each other" in advice[0]
    assert not trl(tmp_path, "packing: true\npacking_strategy: wrapped\n").workload.causal_mask


def test_quantized_weights_take_adapters_in_bf16_today_and_were_prepared_before(tmp_path: Path) -> None:
    text = "load_in_4bit: true\nuse_peft: true\nlora_target_modules: all-linear\n"
    new = trl(tmp_path, f"dtype: bfloat16\n{text}").workload.adapter
    old = trl(tmp_path, f"torch_dtype: bfloat16\nbf16: true\n{text}").workload.adapter
    assert new is not None
    assert old is not None
    assert (new.dtype, new.prepare_kbit, new.rank, new.dropout) == (Dtype.BF16, False, 16, 0.05)
    assert (old.dtype, old.prepare_kbit, old.half_embeddings) == (Dtype.FP32, True, True)


def test_keys_keep_the_name_the_file_has_for_them(tmp_path: Path) -> None:
    reading = trl(tmp_path, "max_seq_length: 4096\nactivation_checkpointing: false  # slow\n")
    text, advice = after(reading, sequence__length=2048, checkpointing=Checkpointing(every=1))
    assert text == (
        "max_seq_length: 2048\nactivation_checkpointing: true  # slow\n"
        "activation_checkpointing_kwargs: {use_reentrant: false}\n"
    )
    assert not advice


def test_checkpointing_that_is_turned_on_is_the_newer_kind(tmp_path: Path) -> None:
    text = "gradient_checkpointing: false\ngradient_checkpointing_kwargs:\n  use_reentrant: true\n"
    changed, _ = after(trl(tmp_path, text), checkpointing=Checkpointing(every=1))
    assert changed == text.replace("checkpointing: false", "checkpointing: true").replace(
        "use_reentrant: true", "use_reentrant: false"
    )


def test_every_other_block_is_written_only_where_the_file_has_a_stride(tmp_path: Path) -> None:
    stride = "activation_checkpointing_kwargs: {every_n_layers: 4}\n"
    reading = trl(tmp_path, stride)
    assert reading.workload.checkpointing.every == 4
    assert after(reading, checkpointing=Checkpointing(every=2))[0] == stride.replace("4", "2")
    _, advice = after(trl(tmp_path, ""), checkpointing=Checkpointing(every=2))
    assert "every block or none" in advice[0]


def test_fsdp_of_the_trainer_is_version_2_unless_its_spelling_is_older(tmp_path: Path) -> None:
    new = trl(tmp_path, "fsdp: true\ndtype: bfloat16\n").workload
    assert (new.world.sharding, new.world.param_dtype, new.precision.autocast) == ("fsdp2", Dtype.BF16, None)
    assert new.precision.params is Dtype.FP32
    old = trl(tmp_path, "fsdp: full_shard\nfsdp_config: {backward_prefetch: backward_pre}\n").workload
    assert (old.world.sharding, old.world.backward_prefetch, old.world.param_dtype) == (
        "fsdp1",
        "pre",
        Dtype.BF16,
    )
    assert (old.precision.params, old.precision.autocast) == (Dtype.FP32, Dtype.BF16)
    partly = trl(tmp_path, "fsdp: shard_grad_op\nfsdp_config: {version: 2}\n").workload.world
    assert (partly.sharding, partly.reshard_after_forward) == ("fsdp2", False)


def test_a_missing_deepspeed_file_is_a_warning_with_its_place(tmp_path: Path) -> None:
    reading = trl(tmp_path, "deepspeed: configs/zero3.json\n")
    assert reading.workload.world.sharding == "zero3"
    assert any("config.yaml:4" in warning and "not here" in warning for warning in reading.warnings)


def test_sequences_that_are_never_cut_are_assumed_and_said_so(tmp_path: Path) -> None:
    reading = trl(tmp_path, "max_length: null\n")
    assert reading.origins["sequence.length"].how == "assumed"
    assert any("not cut" in warning for warning in reading.warnings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gradient_accumulation_steps: 0", "is too small"),
        ("attn_implementation: flash", "is not one of its values"),
        ("dtype: float12", "dtype"),
        ("use_peft: true\nlora_r: many", "must be a whole number"),
        ("gradient_checkpointing: perhaps", "must be true or false"),
    ],
)
def test_a_value_trl_would_refuse_is_a_located_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FieldError, match=message) as caught:
        trl(tmp_path, text)
    assert caught.value.location is not None
    assert caught.value.location.line >= 4
