"""Whatever a lever offers, a native config says: written, and read back as it was planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.domain.plan import Option
from memplan.levers import LEVERS, Lever
from memplan.read import read, reread

MODEL = "memplan: 1\nmodel: {ref: meta-llama/Llama-3.2-1B}\n"
CONFIGS = {
    "bare": MODEL,
    "spelled out": MODEL
    + "precision: {params: fp32, autocast: bf16}\nbatch: {micro: 12, accumulation: 2}  # 24\n"
    "optimizer:\n  name: adamw\n  set_to_none: false\nattention: eager\nloss: cross_entropy\n"
    "evaluation: {batch: 16, kept: 4}\nallocator: {max_split_size_mb: 64}\n",
    "adapted": MODEL + "adapter: {rank: 16, targets: [q_proj]}\nquantization: {kind: nf4}\n",
    "spread": MODEL + "world: {data_parallel: 4}\nprecision: {params: fp32}\nhost: {workers: 4}\n",
    "fp32 gradients": MODEL + "precision: {params: bf16, gradients: fp32}\n",
    "fp32 sums": MODEL
    + "world: {data_parallel: 4, sharding: fsdp2, param_dtype: bf16, reduce_dtype: fp32}\n",
    "generating": MODEL + "task: generate\ngenerate: {prompt: 4096, new_tokens: 64, cache: dynamic}\n",
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("lever", LEVERS, ids=lambda lever: lever.NAME)
def test_every_option_is_written_and_read_back(tmp_path: Path, lever: Lever, name: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIGS[name], encoding="utf-8")
    reading = read(path)
    options: tuple[Option, ...] = lever.options(reading.workload, None)
    for option in options:
        asked = [(field, reading.workload.at(field), value) for field, value in option.changes.items()]
        written, advice = edits(reading, asked)
        assert not advice
        planned = reading.workload
        for field, value in option.changes.items():
            planned = planned.changed(field, value)
        text = documents.apply(reading.document.source, written)
        assert reread(reading, {str(path): text}).workload == planned
