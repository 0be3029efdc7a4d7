"""torchtitan, GPT-NeoX and nanoGPT: models counted as published, and what depends on the number of GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, MemplanError
from memplan.domain.workload import Checkpointing
from memplan.read import read

TITAN = '[job]\n[model]\nname = "{}"\nflavor = "{}"\n[training]\nlocal_batch_size = 2\n[parallelism]\n'
FLAVORS = [
    ("llama3", "8B", 8_030_261_248),
    ("llama3", "70B", 70_553_706_496),
    ("llama3", "405B", 405_853_388_800),
    ("qwen3", "0.6B", 596_049_920),
    ("qwen3", "32B", 32_762_123_264),
    ("qwen3", "30B-A3B", 30_532_122_624),
    ("deepseek_v3", "671B", 671_026_419_200 - 58 * 256),
    ("gpt_oss", "20b", 20_914_757_184),
]
"""Published parameter counts; DeepSeek-V3's takes in the routers' biases, which no gradient changes."""

PYTHIA = [
    (6, 512, 8, 70_426_624),
    (24, 1024, 16, 405_334_016),
    (16, 2048, 8, 1_011_781_632),
    (32, 2560, 32, 2_775_208_960),
]
"""Layers, width, heads and published parameters of Pythia 70M, 410M, 1B and 2.8B."""

NEOX = """{{"num_layers": {}, "hidden_size": {}, "num_attention_heads": {}, "seq_length": 2048,
  "max_position_embeddings": 2048, "pos_emb": "rotary", "rotary_pct": 0.25, "no_weight_tying": true,
  "gpt_j_residual": true, "train_micro_batch_size_per_gpu": 4, {} }}
"""


def parameters(path: Path) -> int:
    model = read(path).workload.model
    assert isinstance(model, Architecture)
    return model.parameters


@pytest.mark.parametrize(("name", "flavor", "published"), FLAVORS)
def test_flavors_of_torchtitan_have_the_parameters_published(
    name: str, flavor: str, published: int, tmp_path: Path
) -> None:
    path = tmp_path / "job.toml"
    path.write_text(TITAN.format(name, flavor))
    assert parameters(path) == published


@pytest.mark.parametrize(("layers", "width", "heads", "published"), PYTHIA)
def test_pythia_has_the_parameters_published(
    layers: int, width: int, heads: int, published: int, tmp_path: Path
) -> None:
    path = tmp_path / "pythia.yml"
    path.write_text(NEOX.format(layers, width, heads, '"fp16": {"enabled": true}'))
    assert parameters(path) == published


@pytest.mark.parametrize(
    ("start", "published"), [("gpt2", 124_439_808), ("gpt2-medium", 354_823_168), ("gpt2-xl", 1_557_611_200)]
)
def test_nanogpt_starts_from_the_published_models(start: str, published: int, tmp_path: Path) -> None:
    path = tmp_path / "finetune.py"
    path.write_text(f"init_from = '{start}'\nbatch_size = 1\n")
    assert parameters(path) == published


def test_one_gpu_runs_torchtitan_under_autocast_and_several_under_fsdp(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(TITAN.format("llama3", "debugmodel"))
    alone = read(path)
    assert alone.workload.precision.autocast is Dtype.BF16
    assert any("--gpus" in warning for warning in alone.warnings)
    spread = read(path, overrides=["world.data_parallel=8"])
    assert spread.workload.precision.autocast is None
    assert spread.workload.world.sharding == "fsdp2"
    assert spread.workload.world.param_dtype is Dtype.BF16
    assert spread.warnings == ()


def test_replicas_of_torchtitan_are_wrapped_whole(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    degrees = "data_parallel_shard_degree = 1\ndata_parallel_replicate_degree = 4\n"
    path.write_text(TITAN.format("llama3", "debugmodel") + degrees)
    world = read(path).workload.world
    assert (world.sharding, world.data_parallel, world.bucket_cap_mb) == ("none", 4, 100)


@pytest.mark.parametrize(
    ("table", "every"),
    [
        ("", 2),
        ('mode = "full"', 1),
        ('mode = "none"', 0),
        ('selective_ac_option = "op"', 0),
        ('selective_ac_option = "4"', 4),
        ('mode = "memory_budget"', 0),
    ],
)
def test_torchtitan_checkpoints_every_second_block_unless_told_otherwise(
    table: str, every: int, tmp_path: Path
) -> None:
    path = tmp_path / "job.toml"
    path.write_text(TITAN.format("llama3", "debugmodel") + f"[activation_checkpoint]\n{table}\n")
    # Of every two blocks it is the second: torchtitan counts from one.
    assert read(path).workload.checkpointing == Checkpointing(every=every, start=max(0, every - 1))


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("[parallelism]\ntensor_parallel_degree = 8\n", "tensor_parallel_degree"),
        ("[training]\nenable_cpu_offload = true\n", "enable_cpu_offload"),
        ('[model]\nconverters = ["float8"]\n', "converters"),
        ("[compile]\nenable = true\n", "compile.enable"),
    ],
)
def test_what_torchtitan_does_besides_is_named_with_its_place(
    setting: str, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "job.toml"
    table = setting.split("\n")[0]
    base = TITAN.format("llama3", "debugmodel")
    text = base.replace(table + "\n", setting) if table + "\n" in base else base + setting
    path.write_text(text)
    reasons = [gap.reason for gap in read(path).workload.unmodelled]
    assert any(named in reason and f"{path}:" in reason for reason in reasons), reasons


@pytest.mark.parametrize(
    ("setting", "refused"),
    [
        ('"moe_num_experts": 8', "moe_num_experts"),
        ('"train_impl": "dpo"', "train_impl"),
        ('"precision": "int8"', "precision"),
        ('"gradient_accumulation_steps": 0', "gradient_accumulation_steps"),
    ],
)
def test_what_gpt_neox_asks_for_and_is_not_simulated_is_refused_at_its_place(
    setting: str, refused: str, tmp_path: Path
) -> None:
    path = tmp_path / "neox.yml"
    path.write_text(NEOX.format(2, 64, 4, setting))
    with pytest.raises(FieldError, match=refused) as caught:
        read(path, dialect="gpt_neox")
    assert caught.value.location is not None


def test_a_model_of_more_layers_than_any_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "neox.yml"
    path.write_text(NEOX.format(2_000_000, 64, 4, ""))
    with pytest.raises(FieldError, match="2,000,000 layers") as caught:
        read(path)
    assert caught.value.location is not None


def test_a_folder_with_one_torchtitan_job_is_that_job(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "job.toml").write_text(TITAN.format("llama3", "debugmodel"))
    assert read(tmp_path).dialect == "torchtitan"


def test_a_part_of_a_gpt_neox_run_is_no_run(tmp_path: Path) -> None:
    path = tmp_path / "slurm.yml"
    path.write_text('{"pipe_parallel_size": 1, "launcher": "slurm"}\n')
    with pytest.raises(FieldError, match="GPT-NeoX"):
        read(path)


def test_a_nanogpt_config_that_trains_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "eval_gpt2.py"
    path.write_text("batch_size = 8\neval_only = True\ninit_from = 'gpt2'\n")
    with pytest.raises(FieldError, match="nothing is trained"):
        read(path)


@pytest.mark.parametrize(
    "text", ["import os\n", "batch_size = 4\n", "def f():\n    block_size = 1\n", "x = (\n"]
)
def test_a_program_with_few_of_nanogpts_names_is_not_its_config(text: str, tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(text)
    with pytest.raises(MemplanError) as caught:
        read(path)
    assert caught.value.location is not None
