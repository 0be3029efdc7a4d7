"""The peak as a story: what is alive, what it waits for, what would free it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Tag, Trace
from memplan.estimate import estimate
from memplan.estimate.story import Held, Release, story, told
from memplan.read import read
from memplan.reporters import json as reporter
from memplan.reporters import terminal
from memplan.reporters.remedies import REMEDIES, remedies
from memplan.reporters.views import explain
from memplan.reporters.views.peak import arithmetic, until

MODEL = {
    "model_type": "llama",
    "vocab_size": 4000,
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def tag(name: str) -> Tag:
    return ("activations", name, "made", (4,), Dtype.FP32)


def config(folder: Path, **keys: Any) -> Path:
    path = folder / "memplan.yaml"
    path.write_text(json.dumps({"memplan": 1, "model": {"config": MODEL}} | keys), encoding="utf-8")
    return path


def test_what_is_alive_waits_for_the_op_that_ran_last_before_it_goes() -> None:
    trace = Trace()
    trace.enter(Phase.LOAD)
    weight = trace.allocate(16, tag("weight"))
    trace.cycles.append(len(trace.events))
    trace.enter(Phase.FORWARD)
    saved = trace.allocate(16, tag("saved"))
    outputs = trace.allocate(16, tag("outputs"))
    event = len(trace.events) - 1
    trace.enter(Phase.BACKWARD)
    gradient = trace.allocate(16, tag("gradient"))
    trace.free(saved)
    trace.free(gradient)
    found = {item.tag[1]: item for item in told(trace, event).held}
    assert (weight, outputs) == (0, 2)
    assert found["saved"].release == Release(phase=Phase.BACKWARD, scope="gradient", op="made")
    assert (found["weight"].release, found["weight"].next_step) == (None, False)
    assert (found["outputs"].release, found["outputs"].next_step) == (None, True)
    assert [until(found[name]) for name in ("saved", "weight", "outputs")] == [
        "backward: made of gradient",
        "the run ends",
        "the next step begins",
    ]


def test_alike_tensors_are_told_together_with_the_fate_of_most() -> None:
    trace = Trace()
    trace.enter(Phase.FORWARD)
    blocks = [trace.allocate(16, tag("alike")) for _ in range(3)]
    event = len(trace.events) - 1
    trace.enter(Phase.BACKWARD)
    for name, block in zip(("first", "other", "other"), blocks, strict=True):
        made = trace.allocate(16, tag(name))
        trace.free(block)
        trace.free(made)
    (held,) = told(trace, event).held
    assert (held.count, held.bytes) == (3, 48)
    assert held.release == Release(phase=Phase.BACKWARD, scope="other", op="made")


@pytest.mark.parametrize(
    "keys",
    [{}, {"checkpointing": "full"}, {"batch": {"micro": 8}, "adapter": {"kind": "lora"}}],
    ids=["full", "checkpointed", "lora"],
)
def test_the_story_and_the_estimate_are_of_the_same_peak(tmp_path: Path, keys: dict[str, Any]) -> None:
    workload = read(config(tmp_path, sequence={"length": 512}, **keys)).workload
    found, tale = estimate(workload), story(workload)
    assert tale.phase == found.device.peak_phase
    for part in found.device.components:
        if part.name != "rounding":
            assert sum(item.bytes for item in tale.of(part.name)) == part.bytes, part.name


def test_gradients_and_kept_logits_wait_for_the_optimizer_and_parameters_for_the_end(tmp_path: Path) -> None:
    workload = read(config(tmp_path, sequence={"length": 16})).workload
    tale = story(workload)
    assert tale.phase is Phase.OPTIMIZER
    assert {until(item) for item in tale.of("gradients")} == {"the optimizer's step is done"}
    assert {until(item) for item in tale.of("blocks")} == {"the run ends"}
    assert {until(item) for item in tale.of("logits_and_loss")} == {"the optimizer's step is done"}


def test_the_input_of_silu_waits_for_its_backward_and_a_linear_layers_input_for_its_product(
    tmp_path: Path,
) -> None:
    workload = read(config(tmp_path, sequence={"length": 512}, batch={"micro": 8})).workload
    waits = {(item.tag[1], item.tag[2]): item.release for item in story(workload).of("activations")}
    silu = waits["layers.*.mlp.gate_proj", "linear"]
    assert silu is not None
    assert (silu.phase, silu.op) == (Phase.BACKWARD, "silu_backward")
    product = waits["layers.*.mlp.up_proj", "mul"]
    assert product == Release(phase=Phase.BACKWARD, scope="layers.*.mlp.down_proj", op="mm")


BEFORE: dict[str, dict[str, Any]] = {
    "checkpointing=full": {},
    "checkpointing={every: 1, offload: true}": {"checkpointing": "full", "batch": {"micro": 16}},
    "attention=sdpa": {"attention": "eager"},
    "loss=fused_linear": {},
    "loop.outputs=dropped": {},
    "batch.micro=1": {},
    "adapter={kind: lora}": {"sequence": {"length": 16}, "batch": {"micro": 1}},
    "optimizer.name=adamw_8bit": {},
    "optimizer.implementation=fused": {"sequence": {"length": 16}, "batch": {"micro": 1}},
    "optimizer.set_to_none=true": {"optimizer": {"set_to_none": False}},
    "precision.params=bf16": {"precision": {"params": "fp32"}},
    "quantization={kind: nf4}": {"adapter": {"kind": "lora"}},
}
"""For every remedy, a run it applies to."""


@pytest.mark.parametrize("remedy", REMEDIES, ids=[remedy.setting for remedy in REMEDIES])
def test_every_remedy_is_a_setting_that_frees_what_it_says(remedy: Any, tmp_path: Path) -> None:
    run = {"sequence": {"length": 512}, "batch": {"micro": 4}} | BEFORE[remedy.setting]
    path = config(tmp_path, **run)
    before = estimate(read(path).workload)
    after = estimate(read(path, overrides=(remedy.setting,)).workload)
    assert after.device.peak_allocated < before.device.peak_allocated
    offered = [
        name
        for name in remedy.frees
        if remedy in remedies(name, before.workload, before.device.peak_phase) and before.component(name)
    ]
    assert any(after.component(name) < before.component(name) for name in offered), offered
    assert remedy not in remedies(remedy.frees[0], after.workload, after.device.peak_phase)


def test_the_arithmetic_multiplies_out_to_the_sizes_it_shows() -> None:
    item = Held(
        tag=("logits_and_loss", "loss", "log_softmax", (32768, 128256), Dtype.FP32), count=2, release=None
    )
    row, total = arithmetic([item]).rows
    assert row[1] == "2 × 32768 × 128256 × 4 B"
    assert 2 * 32768 * 128256 * 4 == item.bytes
    assert row[2] == total[2] == "31.3 GiB"


def test_the_report_tells_when_what_and_why_and_json_only_gains_keys(tmp_path: Path) -> None:
    reading = read(config(tmp_path, sequence={"length": 512}, batch={"micro": 8}))
    found, tale = estimate(reading.workload), story(reading.workload)
    text = terminal.plain(explain.report(reading, found, None, tale))
    assert "The peak is in the backward phase, as loss log_softmax_backward (4096, 4000) fp32 is made" in text
    assert "backward: silu_backward" in text
    assert "--set 'checkpointing=full'" in text
    narrowed = terminal.plain(explain.report(reading, found, "logits_and_loss", tale))
    assert "4096 × 4000 × 4 B" in narrowed
    assert "vocab_size 4000" in narrowed
    plain, told_too = (reporter.explanation(reading, found, None, it) for it in (None, tale))
    assert {key: value for key, value in told_too.items() if key != "held"} == {
        key: value for key, value in plain.items() if key != "held"
    }
    assert plain["held"] == []
    assert sum(item["bytes"] for item in told_too["held"]) <= found.device.peak_allocated
    assert json.loads(reporter.render(told_too))["held"][0]["until"]["phase"] == "backward"
