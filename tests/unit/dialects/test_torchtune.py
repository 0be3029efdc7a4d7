"""torchtune: what each key means for memory, what its recipes refuse, and what is only bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.domain.errors import FieldError, MemplanError, UnknownNameError
from memplan.domain.harm import Harm
from memplan.domain.host import Saving
from memplan.domain.workload import Batch, Checkpointing, Evaluation, Loss, Quantization, Task
from memplan.estimate import estimate
from memplan.read import read

BUILDER = "torchtune.models.llama3_2.llama3_2_1b"
LORA = "torchtune.models.llama3_2.lora_llama3_2_1b"
QLORA = "torchtune.models.llama3_2.qlora_llama3_2_1b"
ADAPTED = "\n  lora_attn_modules: [q_proj]"
ADAMW = "optimizer: {_component_: torch.optim.AdamW}\n"


def recipe(
    folder: Path, text: str = "", *, model: str = BUILDER, optimizer: str = ADAMW, top: str = ""
) -> Reading:
    path = folder / "recipe.yaml"
    path.write_text(
        f"{top}model:\n  _component_: {model}\ncheckpointer: {{_component_: a.Checkpointer}}\n"
        f"tokenizer: {{_component_: torchtune.models.llama3.llama3_tokenizer, max_seq_len: 512}}\n"
        f"{optimizer}dtype: bf16\n{text}\n"
    )
    return read(path)


MEANINGS: list[tuple[str, str, Any]] = [
    ("batch_size: 4\ngradient_accumulation_steps: 2", "batch", Batch(micro=4, accumulation=2)),
    ("enable_activation_checkpointing: True", "checkpointing", Checkpointing(every=1)),
    (
        "enable_activation_checkpointing: True\nenable_activation_offloading: True",
        "activation_offload",
        "streams",
    ),
    (
        "enable_activation_checkpointing: True\nenable_activation_offloading: True\n"
        "activation_offloading_use_streams: False",
        "activation_offload",
        "single_stream",
    ),
    ("custom_sharded_layers: [output]\nac_mode: selective\nac_option: 2", "checkpointing.every", 2),
    ("custom_sharded_layers: [output]\nac_mode: full", "checkpointing.every", 1),
    ("custom_sharded_layers: [output]\nac_mode: none", "checkpointing.every", 0),
    ("ac_mode: selective\nac_option: 2\nenable_activation_checkpointing: True", "checkpointing.every", 0),
    ("data_parallel_shard_dim: 4", "world.data_parallel", 4),
    ("data_parallel_shard_dim: -1", "world.data_parallel", 1),
    ("fsdp_reshard_after_forward: False", "world.reshard_after_forward", False),
    ("fsdp_cpu_offload: True", "optimizer.implementation", "for_loop"),
    ("tensor_parallel_dim: 1", "world.sharding", "fsdp2"),
    ("clip_grad_norm: 1.0", "optimizer.clipping", True),
    ("clip_grad_norm: null", "optimizer.clipping", False),
    (
        "loss: {_component_: torchtune.modules.loss.CEWithChunkedOutputLoss}",
        "loss",
        Loss(kind="chunked", chunks=8),
    ),
    ("loss: {_component_: torch.nn.CrossEntropyLoss}", "loss", Loss()),
    ("batch_size_val: 4\nrun_val_every_n_steps: 10", "evaluation", Evaluation(batch=4)),
    ("batch_size: 2\nbatch_size_val: ${batch_size}\nrun_val_every_n_steps: 10", "evaluation", None),
    ("batch_size_val: 4\nrun_val_every_n_steps: null", "evaluation", None),
    ("epochs: 3", "saving", Saving(kept=3, optimizer=True)),
    ("epochs: 1", "saving", Saving(kept=1, optimizer=False)),
]


@pytest.mark.parametrize(("text", "field", "value"), MEANINGS)
def test_a_key_means_this(tmp_path: Path, text: str, field: str, value: object) -> None:
    assert recipe(tmp_path, text).workload.at(field) == value


OPTIMIZERS = [
    ("torch.optim.AdamW", "fused: True", "adamw", "fused"),
    ("torch.optim.AdamW", "lr: 1", "adamw", "foreach"),
    ("torch.optim.AdamW", "foreach: False", "adamw", "for_loop"),
    ("bitsandbytes.optim.PagedAdamW8bit", "lr: 2e-5", "paged_adamw_8bit", "for_loop"),
    ("bitsandbytes.optim.PagedAdamW", "lr: 2e-5", "paged_adamw_32bit", "for_loop"),
    ("torchao.optim.CPUOffloadOptimizer", "lr: 1", "torchao.optim.cpuoffloadoptimizer", "for_loop"),
]


@pytest.mark.parametrize(("component", "argument", "name", "implementation"), OPTIMIZERS)
def test_an_optimizer_is_known_by_its_class(
    tmp_path: Path, component: str, argument: str, name: str, implementation: str
) -> None:
    text = f"optimizer: {{_component_: {component}, {argument}}}\n"
    found = recipe(tmp_path, optimizer=text)
    assert (found.workload.optimizer.name, found.workload.optimizer.implementation) == (name, implementation)
    assert any("is not modelled" in warning for warning in found.warnings) == ("." in name)


REFUSED = [
    ("enable_activation_offloading: True", FieldError, "without checkpointing", 7),
    ("optimizer_in_bwd: True\ngradient_accumulation_steps: 2", FieldError, "refuses it", 7),
    ("custom_sharded_layers: [output]\nac_mode: selective", FieldError, "ac_option", 8),
    ("batch_size: many", FieldError, "whole number", 7),
    ("batch_size: ${nowhere}", FieldError, "whole number", 7),
    ("batch_size: 1\nbatch_size: 2", MemplanError, "written twice", 8),
]


@pytest.mark.parametrize(("text", "error", "match", "line"), REFUSED)
def test_what_a_recipe_would_refuse_is_refused_at_its_place(
    tmp_path: Path, text: str, error: type[MemplanError], match: str, line: int
) -> None:
    with pytest.raises(error, match=match) as caught:
        recipe(tmp_path, text)
    assert caught.value.location is not None
    assert caught.value.location.line == line


def test_half_precision_of_the_older_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    recipe(tmp_path)
    path.write_text(path.read_text().replace("dtype: bf16", "dtype: fp16"))
    with pytest.raises(FieldError, match="refuse to run in fp16"):
        read(path)


def test_adapters_have_the_dtype_of_the_run_and_the_layers_of_three_keys(tmp_path: Path) -> None:
    arguments = "\n  lora_attn_modules: ['q_proj', 'output_proj']\n  apply_lora_to_mlp: True\n  lora_rank: 4"
    found = recipe(tmp_path, model=LORA + arguments).workload.adapter
    assert found is not None
    assert found.targets == ("q_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert (found.rank, found.dtype.label, found.dropout) == (4, "bf16", 0.0)


def test_layers_that_a_model_publishes_as_one_are_named_as_one(tmp_path: Path) -> None:
    arguments = "\n  lora_attn_modules: [q_proj, v_proj]\n  apply_lora_to_mlp: True"
    found = recipe(tmp_path, model="torchtune.models.phi3.lora_phi3_mini" + arguments).workload.adapter
    assert found is not None
    assert found.targets == ("qkv_proj", "gate_up_proj", "down_proj")


@pytest.mark.parametrize(
    ("model", "quantized"),
    [
        (QLORA + ADAPTED, True),
        (LORA + ADAPTED, False),
        (LORA + ADAPTED + "\n  quantize_base: True", True),
        (QLORA + ADAPTED + "\n  quantize_base: False", False),
    ],
)
def test_a_builder_or_its_argument_quantizes(tmp_path: Path, model: str, quantized: bool) -> None:
    found = recipe(tmp_path, model=model).workload.quantization
    assert found == (Quantization(kind="nf4", double=True, readers=0) if quantized else None)


def test_the_command_in_the_comments_says_whether_states_are_sharded(tmp_path: Path) -> None:
    several = "# tune run --nnodes 1 --nproc_per_node 4 dev/x_distributed --config a\n"
    assert recipe(tmp_path, top=several).workload.world.sharding == "fsdp2"
    assert (
        recipe(tmp_path, top="#   tune run lora_finetune_single_device\n").workload.world.sharding == "none"
    )
    assert recipe(tmp_path).workload.world.sharding == "none"


def test_a_length_that_the_longest_sample_decides_is_assumed_and_said(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    recipe(tmp_path)
    path.write_text(path.read_text().replace("max_seq_len: 512", "max_seq_len: null"))
    found = read(path)
    assert found.workload.sequence.length == 2048
    assert found.origins["sequence.length"].how == "assumed"
    assert any("2048 tokens" in warning for warning in found.warnings)
    path.write_text(path.read_text() + "dataset: {_component_: x, packed: True}\n")
    with pytest.raises(FieldError, match="max_seq_len"):
        read(path)


@pytest.mark.parametrize(
    ("model", "offer"),
    [
        ("torchtune.models.llama3_2.llama3_2_2b", "llama3_2_1b"),
        ("my.models.llama3_2_1b", "of one size"),
        ("torchtune.models.llama3_2.llama3_2", "of one size"),
    ],
)
def test_a_builder_that_is_not_known_is_refused_with_the_nearest(
    tmp_path: Path, model: str, offer: str
) -> None:
    with pytest.raises(UnknownNameError, match="model builder") as caught:
        recipe(tmp_path, model=model)
    assert offer in str(caught.value)
    assert caught.value.location is not None
    assert caught.value.location.line == 2


def test_a_builder_of_which_there_are_two_gets_the_first_with_a_warning(tmp_path: Path) -> None:
    found = recipe(tmp_path, model="torchtune.models.qwen2_5.qwen2_5_7b")
    assert any("read as the former" in warning for warning in found.warnings)


def test_a_teacher_comes_on_top_of_what_is_counted(tmp_path: Path) -> None:
    alone = estimate(recipe(tmp_path).workload).device
    text = "teacher_model: {_component_: torchtune.models.llama3_2.llama3_2_3b}"
    taught = estimate(recipe(tmp_path, text).workload).device
    assert taught.peak_allocated == alone.peak_allocated
    assert taught.high - alone.high > 2 * 3_212_749_824


def test_reinforcement_learning_is_bounded_by_nothing(tmp_path: Path) -> None:
    found = recipe(tmp_path, "grpo_samples: 16")
    assert found.batch_harm is Harm.BEHAVIOUR
    assert any(setting.unbounded for setting in found.workload.unmodelled)


def test_an_update_within_backward_makes_batches_a_matter_of_behaviour(tmp_path: Path) -> None:
    found = recipe(tmp_path, "optimizer_in_bwd: True\ngradient_accumulation_steps: 1")
    assert (found.batch_harm, found.workload.unmodelled[0].shrinks) == (Harm.BEHAVIOUR, ("gradients",))


def test_an_evaluation_answers_in_batches_of_its_own(tmp_path: Path) -> None:
    found = recipe(tmp_path, "tasks: [truthfulqa]\nmax_seq_length: 1024", optimizer="").workload
    assert (found.task, found.batch.micro, found.generate.prompt) == (Task.GENERATE, 8, 1024)
    prompt = "prompt: {system: null, user: Tell a joke.}\nmax_new_tokens: 20"
    asked = recipe(tmp_path, prompt, optimizer="").workload
    assert (asked.batch.micro, asked.generate.new_tokens, asked.generate.cache) == (1, 20, "static")
    with pytest.raises(FieldError, match="nothing here is trained"):
        recipe(tmp_path, "quantizer: {_component_: x}", optimizer="")


def test_another_optimizer_is_written_where_it_takes_the_arguments_that_are_there(tmp_path: Path) -> None:
    found = recipe(tmp_path)
    paged = replace(found.workload.optimizer, name="paged_adamw_8bit", implementation="for_loop")
    written, advice = edits(found, [("optimizer", found.workload.optimizer, paged)])
    assert [edit.replacement for edit in written] == ["bitsandbytes.optim.PagedAdamW8bit"]
    assert not advice
    fused = recipe(tmp_path, optimizer="optimizer: {_component_: torch.optim.AdamW, fused: True}\n")
    written, advice = edits(fused, [("optimizer", fused.workload.optimizer, paged)])
    assert not written
    assert "remove it" in advice[0].message
    looped = replace(found.workload.optimizer, implementation="for_loop")
    written, advice = edits(found, [("optimizer", found.workload.optimizer, looped)])
    assert not written
    assert "another optimizer" in advice[0].message


@pytest.mark.parametrize(
    ("model", "length"), [("torchtune.models.llama2.llama2_7b", 8192), (BUILDER, 200_000)]
)
def test_a_length_beyond_the_context_is_a_finding(tmp_path: Path, model: str, length: int) -> None:
    path = tmp_path / "recipe.yaml"
    recipe(tmp_path, model=model)
    path.write_text(path.read_text().replace("max_seq_len: 512", f"max_seq_len: {length}"))
    assert [finding.code for finding in read(path).findings] == ["MP008"]


def test_states_are_spread_over_the_gpus_of_a_recipe_for_several(tmp_path: Path) -> None:
    whole = estimate(recipe(tmp_path, "data_parallel_shard_dim: 1").workload).device
    spread = estimate(recipe(tmp_path, "data_parallel_shard_dim: 4").workload).device
    assert spread.peak_allocated < whole.peak_allocated
