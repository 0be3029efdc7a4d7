"""What a GPU lacks of what a config asks for: estimate, fit and check say it alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan import profiles
from memplan.check import check
from memplan.cli import main
from memplan.dialects import hardware
from memplan.domain.dtype import Dtype
from memplan.domain.hardware import BF16, FLASH, lacking
from memplan.domain.target import Target
from memplan.domain.workload import Adapter, Attention, Quantization, Workload, World
from memplan.read import read
from tests.planning import workload

HALF = workload().changed("precision.params", Dtype.FP16)
TURING = profiles.target("gtx1650")
NATIVE = "memplan: 1\nmodel: {ref: HuggingFaceTB/SmolLM2-135M}\nbatch: {micro: 1}\nsequence: {length: 64}\n"


def whats(what: Workload, target: Target) -> list[str]:
    return [lack.what for lack in lacking(what, target)]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (HALF, []),
        (HALF.changed("precision.autocast", Dtype.BF16), [BF16]),
        (HALF.changed("quantization", Quantization(kind="nf4")), [BF16]),
        (HALF.changed("quantization", Quantization(kind="nf4", compute=Dtype.FP16)), []),
        (HALF.changed("adapter", Adapter(dtype=Dtype.BF16)), [BF16]),
        (
            HALF.changed("world", World(data_parallel=2, sharding="fsdp2", param_dtype=Dtype.BF16)),
            [BF16],
        ),
        (HALF.changed("attention", Attention.FLASH_ATTENTION_2), [FLASH]),
        (workload().changed("attention", Attention.FLASH_ATTENTION_2), [BF16, FLASH]),
        (HALF.changed("precision.gradients", Dtype.BF16), []),
    ],
)
def test_what_is_computed_in_counts_and_what_is_only_kept_does_not(
    what: Workload, expected: list[str]
) -> None:
    assert whats(what, TURING) == expected
    assert whats(what, profiles.target("rtx3090")) == []


FP8 = {
    "torchtune": "model: {_component_: torchtune.models.llama3_2.llama3_2_1b}\n"
    "checkpointer: {_component_: a.Checkpointer}\n"
    "tokenizer: {_component_: torchtune.models.llama3.llama3_tokenizer, max_seq_len: 512}\n"
    "optimizer: {_component_: torch.optim.AdamW}\ndtype: fp32\nenable_fp8_training: true\n",
    "axolotl": "base_model: meta-llama/Llama-3.2-1B\nbf16: false\nfp16: true\nfp8: true\n",
    "llamafactory": "model_name_or_path: meta-llama/Llama-3.2-1B\nstage: sft\nfinetuning_type: full\n"
    "fp16: true\nfp8: true\n",
}


@pytest.mark.parametrize("dialect", FP8)
def test_fp8_before_ada_is_an_error_at_its_key(tmp_path: Path, dialect: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(FP8[dialect])
    reading = read(path)
    assert reading.dialect == dialect
    (found,) = (item for item in hardware.findings(reading, TURING) if "fp8" in item.message)
    assert FP8[dialect].splitlines()[found.line - 1].endswith("true")
    for newer in ("rtx4090", "h100-sxm"):
        assert not hardware.findings(reading, profiles.target(newer))
    assert any("fp8" in item.message for item in hardware.findings(reading, profiles.target("a100-80gb-sxm")))


@pytest.mark.parametrize(
    ("text", "line", "fix"),
    [
        ("precision: {params: bf16}\n", 5, "params: fp32, autocast: fp16"),
        ("precision: {params: fp16}\nattention: flash_attention_2\n", 6, "sdpa"),
    ],
)
def test_estimate_fit_and_check_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, line: int, fix: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(NATIVE + text)
    (gated,) = (item for item in check([path], target=TURING).findings if item.code == "MP005")
    assert gated.line == line
    assert fix in (gated.fix or "")
    for command in ("estimate", "fit"):
        main([command, str(path), "--gpu", "gtx1650"])
        assert gated.message in " ".join(capsys.readouterr().out.split())
        main([command, str(path), "--gpu", "gtx1650", "--format", "json"])
        payload = json.loads(capsys.readouterr().out)
        (item,) = (payload if command == "estimate" else payload["after"])["findings"]
        assert (item["code"], item["line"]) == ("MP005", line)
