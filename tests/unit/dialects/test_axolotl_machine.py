"""axolotl: what its files send to the host, and what they ask of the machine around the GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.domain.errors import FieldError
from memplan.domain.host import Saving
from memplan.domain.workload import Checkpointing
from tests.unit.dialects.test_axolotl import axolotl

OFFLOADS = [
    ("gradient_checkpointing: offload", 1, "streams"),
    ("gradient_checkpointing: offload_disk", 1, "streams"),
    ("gradient_checkpointing: true\nactivation_offloading: true", 1, "streams"),
    ("gradient_checkpointing: true\nactivation_offloading: disk", 1, "streams"),
    ("gradient_checkpointing: true\nactivation_offloading: legacy", 1, "single_stream"),
    ("gradient_checkpointing: true\nactivation_offloading: false", 1, "none"),
    ("gradient_checkpointing: true\nactivation_offloading: true\nadapter: lora\nlora_r: 8", 0, "streams"),
    ("activation_offloading: false", 0, "none"),
]


@pytest.mark.parametrize(("text", "every", "kind"), OFFLOADS)
def test_activation_offloading_decides_what_is_checkpointed(
    tmp_path: Path, text: str, every: int, kind: str
) -> None:
    found = axolotl(tmp_path, text).workload
    assert (found.checkpointing, found.activation_offload) == (Checkpointing(every=every), kind)


def test_only_the_inputs_of_blocks_may_be_offloaded(tmp_path: Path) -> None:
    asked = "gradient_checkpointing: true\nactivation_offloading: hidden_states\n"
    found = axolotl(tmp_path, asked).workload
    assert found.checkpointing == Checkpointing(every=1, offload=True)
    assert "under way" in found.unmodelled[0].reason
    old = axolotl(tmp_path, "gradient_checkpointing: unsloth").workload
    assert old.checkpointing == Checkpointing(every=1, reentrant=True, offload=True)


def test_offloading_without_checkpointing_is_refused_as_axolotl_does(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="needs checkpointing"):
        axolotl(tmp_path, "activation_offloading: true")


def test_checkpointing_is_not_rewritten_under_offloading(tmp_path: Path) -> None:
    reading = axolotl(tmp_path, "gradient_checkpointing: offload\n")
    change = ("checkpointing", reading.workload.checkpointing, Checkpointing())
    written, advice = edits(reading, [change])
    assert written == ()
    assert "offloading" in advice[0].message


def test_loader_workers_and_checkpoints_have_axolotls_defaults(tmp_path: Path) -> None:
    found = axolotl(tmp_path, "").workload
    assert (found.host.loading, found.host.workers, found.host.prefetch) == ("direct", 1, 256)
    assert found.saving == Saving(kept=4)


def test_loader_workers_and_checkpoints_are_read(tmp_path: Path) -> None:
    text = "dataloader_num_workers: 3\nsave_total_limit: 2\nsave_only_model: true\nfsdp: full_shard\n"
    found = axolotl(tmp_path, text).workload
    assert (found.host.loading, found.host.workers, found.host.prefetch) == ("mapped", 3, 2)
    assert found.saving == Saving(kept=2, optimizer=False)
