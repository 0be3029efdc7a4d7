"""axolotl: what its files mean to memory, on made-up files and on every example of the project."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.dialects.axolotl.keys import near_miss
from memplan.dialects.reading import Reading
from memplan.domain.allocator import AllocatorOptions
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, MemplanError, UnknownNameError
from memplan.domain.estimate import Verdict
from memplan.domain.harm import Harm
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Checkpointing, Evaluation, Loss, Optimizer, Quantization, World
from memplan.estimate import estimate
from memplan.read import read

BASE = "base_model: meta-llama/Llama-3.2-1B\n"


def axolotl(tmp_path: Path, text: str, *, base: str = BASE) -> Reading:
    path = tmp_path / "config.yml"
    path.write_text(base + text, encoding="utf-8")
    return read(path)


PRECISIONS = [
    ("", Dtype.BF16, Dtype.BF16),
    ("bf16: auto", Dtype.BF16, Dtype.BF16),
    ("bf16: true\nfp16:", Dtype.BF16, Dtype.BF16),
    ("bf16: 'true'", Dtype.BF16, Dtype.BF16),
    ("bf16: full", Dtype.BF16, None),
    ("bfloat16: true\nbf16: false", Dtype.BF16, Dtype.BF16),
    ("fp16: true", Dtype.FP16, Dtype.FP16),
    ("bf16: auto\nfp16: true", Dtype.FP16, Dtype.FP16),
    ("bf16: true\nfp16: true", Dtype.BF16, Dtype.BF16),
    ("bf16: false\nfp16: false", Dtype.FP32, None),
    ("bf16: false\nfloat16: true", Dtype.FP16, None),
    ("bf16: false\nload_in_8bit: true", Dtype.FP16, None),
]


@pytest.mark.parametrize(("text", "params", "autocast"), PRECISIONS, ids=[text for text, _, _ in PRECISIONS])
def test_precision_follows_axolotls_own_order(
    tmp_path: Path, text: str, params: Dtype, autocast: Dtype | None
) -> None:
    precision = axolotl(tmp_path, text).workload.precision
    assert (precision.params, precision.autocast) == (params, autocast)


BATCHES = [
    ("", 1, 1),
    ("micro_batch_size: 4", 4, 1),
    ("micro_batch_size: '4'\ngradient_accumulation_steps: 2", 4, 2),
    ("batch_size: 8\nmicro_batch_size: 2", 2, 4),
    ("batch_size: 8\ngradient_accumulation_steps: 4", 2, 4),
    ("batch_size: 8", 1, 8),
]


@pytest.mark.parametrize(("text", "micro", "accumulation"), BATCHES, ids=[text for text, _, _ in BATCHES])
def test_two_of_three_batch_keys_decide_the_third(
    tmp_path: Path, text: str, micro: int, accumulation: int
) -> None:
    batch = axolotl(tmp_path, text).workload.batch
    assert (batch.micro, batch.accumulation) == (micro, accumulation)


ATTENTIONS = [
    ("", Attention.SDPA),
    ("attn_implementation: eager", Attention.EAGER),
    ("attn_implementation: flash_attention_2", Attention.FLASH_ATTENTION_2),
    ("attn_implementation: kernels-community/vllm-flash-attn3", Attention.FLASH_ATTENTION_2),
    ("attn_implementation: flex_attention", Attention.EFFICIENT),
    ("flash_attention: true", Attention.FLASH_ATTENTION_2),
    ("flash_attention: false\nsdp_attention: yes", Attention.SDPA),
    ("xformers_attention: true", Attention.EFFICIENT),
    ("flash_attention: true\nattn_implementation: eager", Attention.EAGER),
]


@pytest.mark.parametrize(("text", "kind"), ATTENTIONS, ids=[text for text, _ in ATTENTIONS])
def test_attention_is_found_under_its_new_and_its_old_keys(
    tmp_path: Path, text: str, kind: Attention
) -> None:
    assert axolotl(tmp_path, text).workload.attention is kind


LIGER = "plugins:\n  - axolotl.integrations.liger.LigerPlugin\n"
CCE = "plugins:\n  - axolotl.integrations.cut_cross_entropy.CutCrossEntropyPlugin\n"
LOSSES = [
    ("", Loss()),
    (LIGER, Loss()),
    (LIGER + "liger_fused_linear_cross_entropy: true", Loss(kind="fused_linear")),
    ("liger_fused_linear_cross_entropy: true", Loss()),
    (LIGER + "liger_cross_entropy: true", Loss(kind="liger_cross_entropy")),
    ("liger_cross_entropy: true", Loss()),
    (CCE, Loss(kind="cut_cross_entropy")),
    (CCE + "cut_cross_entropy: false", Loss()),
    ("chunked_cross_entropy: true", Loss(kind="chunked", chunks=8)),
    ("chunked_cross_entropy: true\nchunked_cross_entropy_num_chunks: 4", Loss(kind="chunked", chunks=4)),
]


@pytest.mark.parametrize(("text", "loss"), LOSSES)
def test_a_fused_loss_needs_its_plugin_as_well(tmp_path: Path, text: str, loss: Loss) -> None:
    assert axolotl(tmp_path, text).workload.loss == loss


@pytest.mark.parametrize(
    ("text", "kernels"),
    [
        ("", ()),
        (LIGER, ()),
        (LIGER + "liger_rms_norm: true\nliger_rope: true", ("rms_norm", "rope")),
        (LIGER + "liger_glu_activation: true\nliger_rope: false", ("glu",)),
        (LIGER + "liger_swiglu: true", ("glu",)),
        ("liger_rms_norm: true", ()),
    ],
)
def test_ligers_kernels_need_their_plugin_as_well(
    tmp_path: Path, text: str, kernels: tuple[str, ...]
) -> None:
    assert axolotl(tmp_path, text).workload.kernels.liger == kernels


def test_ligers_loss_evaluates_with_whole_logits(tmp_path: Path) -> None:
    """The Trainer asks to skip them only where it patched the model itself."""
    flag, held_out = LIGER + "liger_fused_linear_cross_entropy: true\n", "val_set_size: 0.1\n"
    assert axolotl(tmp_path, flag).workload.evaluation is None
    for text, whole in ((held_out, False), (flag + held_out, True)):
        found = axolotl(tmp_path, text).workload
        assert found.evaluation == Evaluation(batch=0, skip_logits=False)
        assert found.evaluation.makes_logits(found.loss) is whole


def test_a_kernel_without_its_plugin_is_warned_about(tmp_path: Path) -> None:
    (warning,) = axolotl(tmp_path, "liger_rope: true").warnings
    assert "liger_rope has no effect without plugins" in warning


def test_a_loss_flag_without_its_plugin_is_warned_about(tmp_path: Path) -> None:
    (warning,) = axolotl(tmp_path, "liger_fused_linear_cross_entropy: true").warnings
    assert "no effect without plugins" in warning


ADAPTERS = [
    ("adapter: lora\nlora_r: 16", 16, ("q_proj", "v_proj")),
    ("adapter: qlora\nload_in_4bit: true\nlora_r: 8\nlora_target_modules: [o_proj]", 8, ("o_proj",)),
    (
        "adapter: lora\nlora_r: 4\nlora_target_linear: true",
        4,
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    ),
    ("adapter: lora\nlora_r: 4\nlora_dropout: 5e-2\nlora_target_modules: [mlp.up_proj]", 4, ("up_proj",)),
    (
        "adapter: lora\nlora_r: 4\nlora_target_modules: 'model.layers.[\\d]+.mlp.(up|down)_proj'",
        4,
        ("up_proj", "down_proj"),
    ),
]


PHI4 = "base_model: microsoft/phi-4\nadapter: lora\nlora_r: 4\n"


def test_all_linear_means_the_linear_layers_of_the_model(tmp_path: Path) -> None:
    adapter = axolotl(tmp_path, "lora_target_linear: true", base=PHI4).workload.adapter
    assert adapter is not None
    assert adapter.targets == ("o_proj", "qkv_proj", "gate_up_proj", "down_proj")


def test_a_model_without_default_targets_must_name_them(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="lora_target_modules is missing"):
        axolotl(tmp_path, "", base=PHI4)


@pytest.mark.parametrize(("text", "rank", "targets"), ADAPTERS)
def test_adapters_keep_their_rank_and_targets_in_fp32(
    tmp_path: Path, text: str, rank: int, targets: tuple[str, ...]
) -> None:
    adapter = axolotl(tmp_path, text).workload.adapter
    assert adapter is not None
    assert (adapter.rank, adapter.targets, adapter.dtype) == (rank, targets, Dtype.FP32)


def test_four_bit_weights_are_nf4_with_double_quantization(tmp_path: Path) -> None:
    work = axolotl(tmp_path, "adapter: qlora\nload_in_4bit: true\nlora_r: 8").workload
    assert work.quantization == Quantization(kind="nf4", double=True, compute=Dtype.BF16)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("adamw_torch", Optimizer(name="adamw", implementation="foreach")),
        ("adamw_torch_fused", Optimizer(name="adamw", implementation="fused")),
        ("paged_adamw_8bit", Optimizer(name="paged_adamw_8bit", implementation="for_loop")),
        ("muon", Optimizer(name="muon", implementation="for_loop")),
        ("lion_8bit", Optimizer(name="lion_8bit", implementation="for_loop")),
        ("came_pytorch", Optimizer(name="came_pytorch", implementation="for_loop")),
    ],
)
def test_optimizers_go_by_what_they_keep(tmp_path: Path, name: str, optimizer: Optimizer) -> None:
    reading = axolotl(tmp_path, f"optimizer: {name}")
    assert reading.workload.optimizer == replace(optimizer, clipping=True)
    assert any("not modelled" in warning for warning in reading.warnings) == (name == "came_pytorch")


FSDP1 = World(sharding="fsdp1", param_dtype=Dtype.BF16, reduce_dtype=Dtype.BF16, backward_prefetch="none")
"""axolotl's default is bf16, which makes the policy of FSDP1 as well."""

AHEAD = replace(FSDP1, backward_prefetch="pre")

WORLDS = [
    ("", World()),
    ("deepspeed: zero2.json", World(sharding="zero2")),
    ("deepspeed: deepspeed_configs/zero3_bf16.json", World(sharding="zero3")),
    ("deepspeed:\n  zero_optimization:\n    stage: 1", World(sharding="zero1")),
    ("fsdp:\n  - full_shard\n  - auto_wrap", FSDP1),
    ("fsdp: shard_grad_op auto_wrap", replace(FSDP1, reshard_after_forward=False)),
    ("fsdp: full_shard\nfsdp_config:\n  fsdp_backward_prefetch: BACKWARD_PRE", AHEAD),
    ("fsdp: full_shard\nfsdp_config:\n  fsdp_use_orig_params: false", replace(FSDP1, use_orig_params=False)),
    (
        "fsdp_version: 2\nfsdp_config:\n  reshard_after_forward: false",
        World(sharding="fsdp2", reshard_after_forward=False),
    ),
    ("fsdp_version: 2\nfsdp_config:\n  reshard_after_forward: true", World(sharding="fsdp2")),
    ("fsdp_version: 2\nfsdp_config: {}\ndp_shard_size: 4", World(sharding="fsdp2", data_parallel=4)),
]


def test_fsdp1_keeps_what_trains_in_fp32_under_autocast(tmp_path: Path) -> None:
    run = axolotl(tmp_path, "bf16: true\nfsdp: full_shard").workload
    assert (run.precision.params, run.precision.autocast) == (Dtype.FP32, Dtype.BF16)
    run = axolotl(tmp_path, "bf16: true\nadapter: lora\nlora_target_linear: true\nfsdp: full_shard").workload
    assert run.adapter is not None
    assert (run.precision.params, run.adapter.dtype) == (Dtype.BF16, Dtype.FP32)


def test_fsdp2_computes_without_autocast(tmp_path: Path) -> None:
    precision = axolotl(tmp_path, "bf16: true\nfsdp_version: 2\nfsdp_config: {}").workload.precision
    assert (precision.params, precision.autocast) == (Dtype.BF16, None)


def test_fsdp2_takes_tensors_one_by_one(tmp_path: Path) -> None:
    text = "optimizer: adamw_torch\nfsdp_version: 2\nfsdp_config: {}"
    assert axolotl(tmp_path, text).workload.optimizer.implementation == "for_loop"


@pytest.mark.parametrize(("text", "world"), WORLDS)
def test_sharding_is_read_from_deepspeed_and_fsdp(tmp_path: Path, text: str, world: World) -> None:
    (tmp_path / "zero2.json").write_text(json.dumps({"zero_optimization": {"stage": 2}}))
    assert axolotl(tmp_path, text).workload.world == world


@pytest.mark.parametrize(
    ("text", "below", "above"),
    [
        ("layer_offloading: true", True, False),
        ("torch_compile: true", True, False),
        ("qat: {weight_dtype: int8}", False, True),
        ("tensor_parallel_size: 1", False, False),
        ("torch_compile: false", False, False),
    ],
)
def test_what_is_not_simulated_widens_the_bounds_and_is_named_with_its_place(
    tmp_path: Path, text: str, below: bool, above: bool
) -> None:
    plain = estimate(axolotl(tmp_path, "sequence_len: 64\n").workload).device
    found = estimate(axolotl(tmp_path, f"sequence_len: 64\n{text}\n").workload).device
    assert (found.process, found.low < plain.low, found.high > plain.high) == (plain.process, below, above)
    named = [gap.reason for gap in found.gaps if f"config.yml:3: {text.split(':')[0]}:" in gap.reason]
    assert bool(named) == (below or above)


def test_an_empty_key_is_an_absent_one(tmp_path: Path) -> None:
    reading = axolotl(tmp_path, "micro_batch_size:\nsequence_len:\nadapter:\ndeepspeed:\nfp16:\n")
    assert reading.workload.sequence.length == 512
    assert reading.origins["batch.micro"].how == "default"


BAD = [
    ("micro_batch_size: 0", "micro_batch_size: 0 is too small"),
    ("micro_batch_size: two", "micro_batch_size: must be a whole number, not two"),
    ("micro_batch_size: 2.5", "micro_batch_size: must be a whole number, not 2.5"),
    ("micro_batch_size: true", "micro_batch_size: must be a whole number, not true"),
    ("sequence_len: 99999999999999", "sequence_len: 99999999999999 is too large"),
    ("gradient_accumulation_steps: [4]", "gradient_accumulation_steps: must be a whole number, not a list"),
    ("adapter: llama-adapter", "adapter: llama-adapter is not modelled"),
    ("adapter: lora\nlora_target_modules: '.*_lin'", "matches no linear module"),
    ("adapter: lora\nlora_target_modules: '(a+)+_proj'", "a pattern too involved"),
    ("adapter: lora\nlora_target_modules: '*_proj'", "no regular expression"),
    ("adapter: lora\nlora_target_modules: ['layers.[0-9]+.x']", "names no linear module of a block"),
    ("adapter: lora\nlora_target_modules: [in_proj]", "names no linear module of a block"),
    ("adapter: lora\nlora_dropout: lots", "lora_dropout: must be a number"),
    ("gradient_checkpointing: sometimes", "gradient_checkpointing: must be true or false"),
    ("attn_implementation: flash", "attn_implementation: flash is not one of its values"),
    ("deepspeed:\n  zero_optimization:\n    stage: 4", "stage: 4 is too large"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[text for text, _ in BAD])
def test_a_value_axolotl_would_refuse_is_a_located_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        axolotl(tmp_path, text)
    assert message in caught.value.message
    assert caught.value.location is not None
    assert caught.value.location.line >= 2


@pytest.mark.parametrize("text", ["rl: dpo\n", "reward_model: true\n"])
def test_what_adds_models_or_batches_leaves_nothing_certain(tmp_path: Path, text: str) -> None:
    reading = axolotl(tmp_path, text)
    (setting,) = reading.workload.unmodelled
    assert setting.unbounded
    assert setting.reason.startswith(f"{reading.path}:")
    found = estimate(reading.workload, Target(name="large", capacity=Bytes(2**50), usable=Bytes(2**50)))
    assert found.verdict is Verdict.UNDECIDED


def test_an_unknown_model_is_located_and_offered_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError) as caught:
        axolotl(tmp_path, "", base="micro_batch_size: 1\nbase_model: meta-llama/Llama-3.2-1Z\n")
    assert caught.value.location is not None
    assert (caught.value.location.line, caught.value.location.column) == (2, 13)
    assert "Llama-3.2-1B" in str(caught.value.hint)
    assert "local directory" in str(caught.value.hint)


def test_a_local_model_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        '{"model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,'
        ' "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,'
        ' "max_position_embeddings": 256}'
    )
    reading = axolotl(tmp_path, "micro_batch_size: 1\n", base="base_model: ./model\n")
    assert len(reading.files) == 2


def test_a_repeated_key_is_warned_about_with_both_lines(tmp_path: Path) -> None:
    reading = axolotl(tmp_path, "micro_batch_size: 1\nval_set_size: 0\nmicro_batch_size: 4\n")
    assert reading.workload.batch.micro == 4
    (warning,) = reading.warnings
    assert "lines 2 and 4" in warning
    written, advice = edits(reading, [("batch.micro", 4, 2), ("batch.accumulation", 1, 2)])
    assert written == ()
    assert [item.field for item in advice] == ["batch.micro", "batch.accumulation"]


def test_a_near_miss_of_a_memory_key_is_warned_about(tmp_path: Path) -> None:
    (warning,) = axolotl(tmp_path, "micro_batchsize: 2\n").warnings
    assert "did you mean micro_batch_size?" in warning
    assert near_miss("eval_batch_size") is None
    assert near_miss("learning_rate") is None


def test_fsdp_checkpointing_is_not_switched_off_under_another_key(tmp_path: Path) -> None:
    reading = axolotl(tmp_path, "fsdp_version: 2\nfsdp_config:\n  activation_checkpointing: true\n")
    assert reading.workload.checkpointing.every == 1
    none = type(reading.workload.checkpointing)()
    written, advice = edits(reading, [("checkpointing", reading.workload.checkpointing, none)])
    assert written == ()
    assert advice[0].line == 4


def test_every_example_of_the_project_reads_or_says_why_not(axolotl_examples: list[Path]) -> None:
    assert len(axolotl_examples) > 100
    read_well = 0
    for path in axolotl_examples:
        try:
            reading = read(path)
        except MemplanError as error:
            named = ("model", "rl", "reward", "adapter", "lora", "not a config")
            assert any(word in error.message for word in named), error
            assert error.location is not None
        else:
            assert reading.dialect == "axolotl"
            read_well += 1
    assert read_well >= 30


def test_every_example_reads_when_its_model_is_one_we_know(
    axolotl_examples: list[Path], tmp_path: Path
) -> None:
    """The other keys of the files whose models are not known offline are read too."""
    for path in axolotl_examples:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [BASE if line.startswith("base_model:") else line for line in lines]
        copy = tmp_path / "config.yml"
        copy.write_text("".join(kept), encoding="utf-8", newline="")
        try:
            reading = read(copy)
        except MemplanError as error:
            refused = ("is a pattern", "is not modelled", "names no linear module", "not a config")
            assert any(word in error.message for word in refused), (path, error)
            continue
        assert not any("did you mean" in warning for warning in reading.warnings), path


EVALUATIONS = [
    ("eval_batch_size: 16\nval_set_size: 0.05", Evaluation(batch=16, skip_logits=False)),
    (
        "eval_batch_size: 16\ntest_datasets:\n  - path: held/out",
        Evaluation(batch=16, skip_logits=False),
    ),
    ("eval_batch_size: 16\nval_set_size: 0.0", None),
    ("eval_batch_size: 16", None),
    ("val_set_size: 0.05", Evaluation(batch=0, skip_logits=False)),
]


@pytest.mark.parametrize(("text", "evaluation"), EVALUATIONS)
def test_evaluation_batches_count_where_something_is_held_out(
    tmp_path: Path, text: str, evaluation: Evaluation | None
) -> None:
    assert axolotl(tmp_path, text).workload.evaluation == evaluation


def test_axolotl_sets_the_allocator_up_itself(tmp_path: Path) -> None:
    reading = axolotl(tmp_path, "")
    assert reading.workload.allocator == AllocatorOptions(
        expandable_segments=True, roundup_power2_divisions=(16,) * 16
    )
    assert reading.origins["allocator"].how == "default"


def test_reentrant_checkpointing_is_read_from_its_options(tmp_path: Path) -> None:
    text = "gradient_checkpointing: true\ngradient_checkpointing_kwargs:\n  use_reentrant: "
    assert axolotl(tmp_path, text + "true").workload.checkpointing == Checkpointing(every=1, reentrant=True)
    assert axolotl(tmp_path, text + "false").workload.checkpointing == Checkpointing(every=1)


def test_decomposed_adapters_and_modules_trained_whole_are_counted(tmp_path: Path) -> None:
    lora = "adapter: lora\nlora_r: 8\n"
    adapter = axolotl(
        tmp_path, lora + "peft_use_dora: true\nlora_modules_to_save: [model.embed_tokens, lm_head]"
    ).workload.adapter
    assert adapter is not None
    assert (adapter.dora, adapter.modules_to_save) == (True, ("embed_tokens", "lm_head"))
    plain = axolotl(tmp_path, lora).workload.adapter
    assert plain is not None
    assert (plain.dora, plain.modules_to_save) == (False, ())


def test_a_module_that_memplan_does_not_copy_is_said_to_be_left_out(tmp_path: Path) -> None:
    reading = axolotl(tmp_path, "adapter: lora\nlora_r: 8\nlora_modules_to_save: [norm]")
    assert any("norm is not counted" in warning for warning in reading.warnings)


@pytest.mark.parametrize(
    ("limit", "clips"), [("", True), ("max_grad_norm: 0.5", True), ("max_grad_norm: 0.0", False)]
)
def test_gradients_are_clipped_unless_the_limit_is_zero(tmp_path: Path, limit: str, clips: bool) -> None:
    assert axolotl(tmp_path, limit).workload.optimizer.clipping is clips


@pytest.mark.parametrize(
    ("text", "harm"),
    [
        ("sample_packing: true\nattn_implementation: flash_attention_2", Harm.NUMERIC),
        ("sample_packing: true\nattn_implementation: eager", None),
        ("sample_packing: true\nattn_implementation: eager\nmultipack_real_batches: false", Harm.NUMERIC),
        ("sample_packing: false\nattn_implementation: flash_attention_2", None),
    ],
)
def test_bins_of_packed_sequences_are_part_of_the_experiment(
    tmp_path: Path, text: str, harm: Harm | None
) -> None:
    reading = axolotl(tmp_path, text)
    assert reading.batch_harm is harm
    assert ("bins" in reading.batch_reason) is (harm is not None)
