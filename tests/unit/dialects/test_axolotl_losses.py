"""Liger's loss and kernels in axolotl files: the flag and the plugin, or a reason why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.documents import yaml
from memplan.documents.source import Source
from memplan.documents.tree import plain
from memplan.domain.workload import Workload
from memplan.levers import loss, optimizer
from memplan.read import read, reread

BASE = "base_model: meta-llama/Llama-3.2-1B\nmicro_batch_size: 2\n"
LIGER = "axolotl.integrations.liger.LigerPlugin"
OTHER = "axolotl.integrations.spectrum.SpectrumPlugin"


def opened(folder: Path, text: str) -> Reading:
    path = folder / "config.yml"
    path.write_bytes(text.encode())
    return read(path)


def written(reading: Reading, changes: dict[str, object]) -> tuple[str, Workload, list[str]]:
    """The rewritten text, the workload that was planned, and what was refused."""
    planned = reading.workload
    for field, value in changes.items():
        planned = planned.changed(field, value)
    asked = [(field, reading.workload.at(field), value) for field, value in changes.items()]
    found, advice = edits(reading, asked)
    return documents.apply(reading.document.source, found), planned, [item.message for item in advice]


@pytest.mark.parametrize(
    "text",
    [
        BASE,
        BASE.replace("\n", "\r\n"),
        BASE.rstrip("\n"),
        BASE + f"plugins:\n  - {OTHER}  # layers\n\nval_set_size: 0.1\n",
        BASE + f"plugins:\n- {OTHER}",
        BASE + f"plugins: [{OTHER}]\nliger_fused_linear_cross_entropy: false\n",
        BASE + f"plugins:\n  - {LIGER}\nliger_rope: true\nval_set_size: 0.1\neval_batch_size: 4\n",
        BASE + "chunked_cross_entropy: true\n",
        BASE + "chunked_cross_entropy: false\n",
    ],
)
def test_every_option_that_is_written_reads_back_as_planned(tmp_path: Path, text: str) -> None:
    reading = opened(tmp_path, text)
    done = 0
    for option in loss.options(reading.workload, None):
        after, planned, refused = written(reading, dict(option.changes))
        if refused:
            assert "older releases" in refused[0]
            continue
        done += 1
        again = reread(reading, {str(reading.path): after})
        assert again.workload == planned
        assert not [line for line in again.warnings if "no effect" in line]
        before, now = plain(reading.document.root), plain(yaml.parse(Source.of(after)))
        moved = {key for key, value in before.items() if now[key] != value}
        assert moved <= {"plugins", "chunked_cross_entropy", "liger_fused_linear_cross_entropy"}
    assert done >= 2


@pytest.mark.parametrize("line", ["rl: dpo", "tiled_mlp: true", "tensor_parallel_size: 2"])
def test_what_does_not_go_with_liger_is_named(tmp_path: Path, line: str) -> None:
    reading = opened(tmp_path, f"{BASE}{line}\n")
    for option in loss.options(reading.workload, None)[1:]:
        after, _, refused = written(reading, dict(option.changes))
        assert after == reading.document.source.text
        assert line.partition(":")[0] in refused[0]


def test_kernels_are_not_written_beside_adapters(tmp_path: Path) -> None:
    reading = opened(tmp_path, BASE + "adapter: lora\nlora_r: 8\nlora_target_linear: true\n")
    alone, together = loss.options(reading.workload, None)[1:]
    assert not written(reading, dict(alone.changes))[2]
    assert "none beside adapters" in written(reading, dict(together.changes))[2][0]


@pytest.mark.parametrize(
    "text", [BASE, BASE + "optimizer: adamw_torch\n", BASE + "optimizer: adamw_bnb_8bit\nadapter: lora\n"]
)
def test_every_variant_of_the_optimizer_reads_back_as_planned(tmp_path: Path, text: str) -> None:
    reading = opened(tmp_path, text)
    offered = optimizer.options(reading.workload, None)
    assert offered
    for option in offered:
        after, planned, refused = written(reading, dict(option.changes))
        assert not refused
        assert reread(reading, {str(reading.path): after}).workload == planned


@pytest.mark.parametrize("text", ["optimizer: adamw_torch_8bit\n", "optim_args: {betas: [0.9, 0.95]}\n"])
def test_an_optimizer_with_a_rule_or_arguments_of_its_own_stays(tmp_path: Path, text: str) -> None:
    reading = opened(tmp_path, BASE + text)
    for option in optimizer.options(reading.workload, None):
        after, _, refused = written(reading, dict(option.changes))
        assert after == reading.document.source.text
        assert "own" in refused[0]
