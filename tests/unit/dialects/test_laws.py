"""Laws of a rewrite, on random changes to real files: what is planned is read back, nothing else moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memplan.dialects import edits
from memplan.documents import edits as documents
from memplan.documents import yaml
from memplan.documents.source import Source
from memplan.documents.tree import plain
from memplan.domain.errors import MemplanError
from memplan.domain.workload import Adapter, Attention, Checkpointing, Loss, Outputs, World
from memplan.read import read, reread

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ROOT = Path(__file__).parents[3]
AXOLOTL = [
    (ROOT / "examples" / "axolotl-lora" / "config.yml").read_text(),
    "base_model: meta-llama/Llama-3.2-1B\r\nadapter:\r\nmicro_batch_size: 2 # x\r\nflash_attention: yes\r\n",
    "# nothing but a model\nbase_model: meta-llama/Llama-3.2-1B",
    "\ufeffbase_model: 'meta-llama/Llama-3.2-1B'\ngradient_checkpointing:\nlora_target_linear:\nlora_r: \n"
    "gradient_accumulation_steps: 4\nlora_dropout: 0.05\nbf16: auto\n",
    "{base_model: meta-llama/Llama-3.2-1B, micro_batch_size: 4, gradient_checkpointing: offload}\n",
]
NATIVE = [
    "memplan: 1\nmodel: {ref: meta-llama/Llama-3.2-1B}",
    "memplan: 1\r\nmodel: {ref: meta-llama/Llama-3.2-1B}\r\nbatch: {micro: 4}  # 4\r\nloss: fused_linear\r\n",
    "memplan: 1\nbatch:\n    micro: 0x10   # hex\n\nadapter:\n  rank: 8\n  targets: [q_proj]\n"
    "model:\n  ref: meta-llama/Llama-3.2-1B\ncheckpointing: {every: 2}\n# end\n",
    "{memplan: 1, model: {ref: meta-llama/Llama-3.2-1B}, batch: {}, attention: eager}\n",
]
COUNTS = st.integers(1, 4096)
EXACT: dict[str, st.SearchStrategy[Any]] = {
    "batch.micro": COUNTS,
    "batch.accumulation": COUNTS,
    "sequence.length": COUNTS,
    "checkpointing": st.sampled_from([Checkpointing(), Checkpointing(every=1)]),
    "attention": st.sampled_from([Attention.EAGER, Attention.SDPA, Attention.FLASH_ATTENTION_2]),
}
ADAPTERS = st.builds(
    Adapter,
    rank=st.integers(1, 256),
    targets=st.lists(st.sampled_from(LINEARS), min_size=1, max_size=3, unique=True).map(tuple)
    | st.just(LINEARS),
)
NATIVE_ONLY: dict[str, st.SearchStrategy[Any]] = {
    "checkpointing": st.integers(0, 4).map(lambda every: Checkpointing(every=every)),
    "loss": st.sampled_from([Loss(), Loss(kind="fused_linear"), Loss(kind="chunked", chunks=8)]),
    "world": st.builds(World, data_parallel=st.integers(1, 8), sharding=st.sampled_from(["none", "zero2"])),
    "outputs": st.sampled_from(list(Outputs)),
    "causal_mask": st.booleans(),
    "optimizer.implementation": st.sampled_from(["foreach", "fused"]),
}


def changes(possible: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=possible)


def check(path: Path, text: str, wanted: dict[str, Any], *, may_refuse: bool) -> None:
    path.write_bytes(text.encode())
    reading = read(path)
    asked = [(name, reading.workload.at(name), after) for name, after in wanted.items()]
    written, advice = edits(reading, asked)
    refused = {item.field for item in advice}
    assert refused <= set(wanted)
    if not may_refuse:
        assert refused == set()
    planned = reading.workload
    for name, after in wanted.items():
        if name not in refused:
            planned = planned.changed(name, after)

    after_text = documents.apply(reading.document.source, written)
    again = reread(reading, {str(path): after_text})
    assert again.workload == planned
    kept = [change for change in asked if change[0] not in refused]
    assert documents.apply(again.document.source, edits(again, kept)[0]) == after_text

    touched = {edit.line for edit in written if "\n" not in edit.replacement}
    lines = text.splitlines(keepends=True)
    rest = iter(after_text.splitlines(keepends=True))
    for number, line in enumerate(lines, start=1):
        if number not in touched and number < len(lines):
            assert line in rest, f"line {number} is gone: {line!r}"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from(AXOLOTL), wanted=changes(EXACT))
def test_axolotl_files_read_back_as_planned(tmp_path: Path, text: str, wanted: dict[str, Any]) -> None:
    # Where activations are offloaded, what is checkpointed is not for itself to be changed.
    check(tmp_path / "config.yml", text, wanted, may_refuse="offload" in text)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from(AXOLOTL), adapter=ADAPTERS)
def test_an_adapter_is_read_back_from_axolotl(tmp_path: Path, text: str, adapter: Adapter) -> None:
    check(tmp_path / "config.yml", text, {"adapter": adapter}, may_refuse="offload" in text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.sampled_from(NATIVE), wanted=changes(EXACT | NATIVE_ONLY | {"adapter": ADAPTERS}))
def test_native_files_read_back_as_planned(tmp_path: Path, text: str, wanted: dict[str, Any]) -> None:
    check(tmp_path / "run.yml", text, wanted, may_refuse=False)


def test_every_readable_example_of_axolotl_takes_exact_changes(
    axolotl_examples: list[Path], tmp_path: Path
) -> None:
    wanted = {"batch.micro": 3, "batch.accumulation": 5, "checkpointing": Checkpointing(every=1)}
    tried = 0
    for path in axolotl_examples:
        text = path.read_bytes().decode()
        try:
            read(path)
        except MemplanError:
            continue
        check(tmp_path / path.name, text, wanted, may_refuse=True)
        tried += 1
    assert tried >= 30


@pytest.mark.parametrize("text", AXOLOTL)
def test_keys_that_are_not_asked_for_keep_their_values(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(text.encode())
    reading = read(path)
    written, _ = edits(reading, [("batch.micro", reading.workload.batch.micro, 7)])
    before = plain(reading.document.root)
    after = plain(yaml.parse(Source.of(documents.apply(reading.document.source, written))))
    assert after == before | {"micro_batch_size": 7}
