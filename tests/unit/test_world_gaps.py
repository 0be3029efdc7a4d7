"""What is not simulated of training on several GPUs is named, and bounded where it can be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from memplan.domain.workload import Workload, World
from memplan.estimate import estimate
from memplan.families import architecture
from memplan.read import read

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 500,
}
TRAINER = """\
model_name_or_path: Qwen/Qwen2.5-0.5B
per_device_train_batch_size: 2
learning_rate: 1.0e-5
output_dir: out
fsdp: {fsdp}
"""


def test_hybrid_sharding_may_hold_as_much_as_no_sharding() -> None:
    plain = Workload(model=architecture(CONFIG, lambda _: None))
    sharded = replace(plain, world=World(data_parallel=8, sharding="fsdp1"))
    hybrid = replace(sharded, world=replace(sharded.world, hybrid=True))
    alone, over_all, over_some = (estimate(run).device for run in (plain, sharded, hybrid))
    states = ("blocks", "embeddings", "decoder_matrix", "optimizer_state")
    whole = sum(part.bytes for part in alone.components if part.name in states)
    assert over_some.peak_allocated == over_all.peak_allocated
    assert over_some.high - over_all.high >= whole * 7 // 8 * 0.9
    assert any("hybrid" in gap.reason for gap in over_some.gaps)
    assert not any("hybrid" in gap.reason for gap in over_all.gaps)


@pytest.mark.parametrize(
    ("words", "hybrid", "reshards"),
    [
        ("full_shard auto_wrap", False, True),
        ("hybrid_shard auto_wrap", True, True),
        ("hybrid_shard_zero2 auto_wrap", True, False),
    ],
)
def test_the_trainer_says_whether_sharding_stays_within_a_node(
    tmp_path: Path, words: str, hybrid: bool, reshards: bool
) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(TRAINER.format(fsdp=words))
    world = read(path, dialect="trl").workload.world
    assert (world.sharding, world.hybrid, world.reshard_after_forward) == ("fsdp1", hybrid, reshards)


def test_accelerate_says_whether_sharding_stays_within_a_node(tmp_path: Path) -> None:
    path = tmp_path / "accelerate.yaml"
    path.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 16\n"
        "fsdp_config:\n  fsdp_version: 1\n  fsdp_sharding_strategy: HYBRID_SHARD\n"
    )
    world = read(path, model="Qwen/Qwen2.5-0.5B").workload.world
    assert (world.sharding, world.hybrid) == ("fsdp1", True)
