"""Disk space: sizes of real files to the byte, and what lies there at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.domain.dtype import Dtype
from memplan.domain.host import Saving
from memplan.domain.workload import Adapter, Optimizer, Precision, Workload, World
from memplan.domain.zero import Place, Zero
from memplan.estimate import estimate, trace_of
from memplan.estimate.disk.archive import archive_bytes, optimizer_bytes
from memplan.estimate.disk.checkpoint import weights
from memplan.estimate.disk.safetensors import Entry, file_bytes
from memplan.estimate.kept import kept
from memplan.families import architecture

torch = pytest.importorskip("torch", reason="real files are written by torch")

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 500,
}
TYPES = {Dtype.FP32: torch.float32, Dtype.BF16: torch.bfloat16, Dtype.INT64: torch.int64}

names = st.text("abcdefghijklmnopqrstuvwxyz._0123456789", min_size=1, max_size=60)
shapes = st.lists(st.integers(1, 12), max_size=3).map(tuple)
files = st.dictionaries(names, st.tuples(st.sampled_from(sorted(TYPES, key=str)), shapes), max_size=12)


def workload(**changes: Any) -> Workload:
    return replace(Workload(model=architecture(CONFIG, lambda _: None)), **changes)


def part(found: Workload, name: str) -> int:
    return next(int(item.bytes) for item in estimate(found).disk_parts if item.name == name)


@settings(max_examples=40, deadline=None)
@given(tensors=files)
def test_a_safetensors_file_has_the_size_that_is_counted(
    tensors: dict[str, Any], tmp_path_factory: Any
) -> None:
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("files") / "model.safetensors"
    made = {name: torch.zeros(shape, dtype=TYPES[dtype]) for name, (dtype, shape) in tensors.items()}
    save_file(made, path, metadata={"format": "pt"})
    entries = [Entry(name=name, dtype=dtype, shape=shape) for name, (dtype, shape) in tensors.items()]
    assert file_bytes(entries) == path.stat().st_size


def test_the_model_files_of_a_real_model_have_the_size_that_is_counted(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings = {key: value for key, value in CONFIG.items() if key != "model_type"}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    assert part(workload(), "model_files") == (tmp_path / "model.safetensors").stat().st_size


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_of_a_real_model_have_the_size_that_is_counted(tmp_path: Path) -> None:
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    settings = {key: value for key, value in CONFIG.items() if key != "model_type"}
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings)), config)
    adapted.save_pretrained(tmp_path)
    found = workload(adapter=Adapter(rank=4, targets=("q_proj", "down_proj")))
    entries = weights(found, kept(trace_of(found, (8, 0))))
    assert file_bytes(entries) == (tmp_path / "adapter_model.safetensors").stat().st_size


@pytest.mark.parametrize("sizes", [(64,) * 12, (4096, 100, 7) * 40, (1_000_000,)])
def test_a_saved_optimizer_has_the_size_that_is_counted(sizes: tuple[int, ...], tmp_path: Path) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in sizes]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.AdamW(parameters)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    states = [size for parameter in sizes for size in (4, 4 * parameter, 4 * parameter)]
    real = (tmp_path / "optimizer.pt").stat().st_size
    assert optimizer_bytes(states) == pytest.approx(real, abs=1024 + 8 * len(states))


def test_everything_but_the_pickle_of_an_archive_is_exact(tmp_path: Path) -> None:
    from zipfile import ZipFile

    path = tmp_path / "states.pt"
    torch.save({"first": torch.zeros(300), "second": torch.zeros(5, 5)}, path)
    with ZipFile(path) as archive:
        records = [(item.filename, item.file_size) for item in archive.infolist()]
    assert archive_bytes(records) == path.stat().st_size


def test_there_is_one_checkpoint_more_than_are_kept() -> None:
    parts = estimate(workload(saving=Saving(kept=3))).disk_parts
    sizes = {item.name: int(item.bytes) for item in parts}
    assert sizes["checkpoints"] == 3 * sizes["checkpoint_being_written"]


def test_without_saving_there_are_only_the_model_files() -> None:
    names = [item.name for item in estimate(workload(saving=Saving(kept=0))).disk_parts]
    assert names == ["model_files"]


def test_a_checkpoint_of_full_training_holds_weights_and_two_states() -> None:
    found = workload(precision=Precision(params=Dtype.FP32))
    weights = found.model.parameters * 4  # type: ignore[union-attr]
    assert part(found, "checkpoint_being_written") == pytest.approx(3 * weights, rel=0.1)


def test_a_checkpoint_of_adapters_is_small() -> None:
    whole = part(workload(), "checkpoint_being_written")
    assert part(workload(adapter=Adapter(rank=2)), "checkpoint_being_written") < whole / 2


def test_without_the_optimizer_a_checkpoint_holds_the_weights_alone() -> None:
    found = workload(saving=Saving(optimizer=False))
    files = part(found, "model_files")
    assert files < part(found, "checkpoint_being_written") < files + 100_000


def test_paged_states_are_saved_too() -> None:
    large = architecture(CONFIG | {"vocab_size": 5000}, lambda _: None)
    plain = workload(model=large, optimizer=Optimizer(name="adamw_8bit"))
    paged = workload(model=large, optimizer=Optimizer(name="paged_adamw_8bit"))
    assert part(paged, "checkpoint_being_written") == pytest.approx(
        part(plain, "checkpoint_being_written"), rel=0.01
    )


def test_what_deepspeed_offloads_to_a_drive_lies_there_and_is_saved_too() -> None:
    gpu, drive = (
        workload(world=World(data_parallel=2, sharding="zero3", zero=Zero(optimizer=place, parameters=place)))
        for place in (Place.GPU, Place.NVME)
    )
    assert gpu.model.parameters % 2 == 0  # type: ignore[union-attr]
    assert part(drive, "offloaded_optimizer") == 16 * drive.model.parameters  # type: ignore[union-attr]
    assert part(drive, "offloaded_parameters") == 2 * drive.model.parameters  # type: ignore[union-attr]
    assert part(drive, "checkpoint_being_written") > 12 * drive.model.parameters  # type: ignore[union-attr]
    assert "offloaded_optimizer" not in [item.name for item in estimate(gpu).disk_parts]
