"""``use_liger_kernel``: what it brings by model type, and how it is switched."""

from __future__ import annotations

from pathlib import Path

import pytest

from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.kernels import LIGER, Kernels
from memplan.domain.workload import Loss
from memplan.read import read, reread

LLAMA, MISTRAL, GPT2 = (
    "meta-llama/Llama-3.1-8B",
    "mistralai/Mistral-7B-v0.1",
    "openai-community/gpt2",
)
FUSED, IN_PLACE = Loss(kind="fused_linear"), Loss(kind="liger_cross_entropy")
ON = "use_liger_kernel: true\n"


def trained(folder: Path, model: str, text: str, dialect: str | None = None) -> Reading:
    path = folder / "args.yaml"
    more = "train_file: corpus.txt\nper_device_train_batch_size: 2\noutput_dir: out\n"
    path.write_text(f"model_name_or_path: {model}\n{more}{text}", encoding="utf-8")
    return read(path, dialect=dialect)


def config(*lines: str) -> str:
    return ON + "liger_kernel_config:\n" + "".join(f"  {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("model", "text", "loss", "kernels"),
    [
        (LLAMA, "", Loss(), ()),
        (LLAMA, "use_liger_kernel: false\n", Loss(), ()),
        (LLAMA, ON, FUSED, LIGER),
        (GPT2, ON, Loss(), ()),
        (LLAMA, config("rope: false", "swiglu: false"), FUSED, ("rms_norm",)),
        (LLAMA, config("fused_linear_cross_entropy: false"), Loss(), LIGER),
        (LLAMA, config("fused_linear_cross_entropy: false", "cross_entropy: true"), IN_PLACE, LIGER),
        (MISTRAL, config("fused_linear_cross_entropy: false", "cross_entropy: true"), Loss(), LIGER),
    ],
)
def test_the_switch_brings_what_liger_has_for_the_model(
    tmp_path: Path, model: str, text: str, loss: Loss, kernels: tuple[str, ...]
) -> None:
    run = trained(tmp_path, model, text).workload
    assert (run.loss, run.kernels.liger) == (loss, kernels)


def test_a_model_type_without_kernels_is_warned_about(tmp_path: Path) -> None:
    (warning,) = [line for line in trained(tmp_path, GPT2, ON).warnings if "Liger" in line]
    assert "Liger has no kernels for gpt2" in warning


def test_loss_and_kernels_are_switched_together(tmp_path: Path) -> None:
    reading = trained(tmp_path, LLAMA, "")
    run = reading.workload
    written, advice = edits(reading, [("loss", run.loss, FUSED), ("kernels.liger", run.kernels.liger, LIGER)])
    assert not advice
    text = documents.apply(reading.document.source, written)
    assert text.count("use_liger_kernel") == 1
    planned = run.changed("loss", FUSED).changed("kernels", Kernels(liger=LIGER))
    assert reread(reading, {reading.path.as_posix(): text}).workload == planned


@pytest.mark.parametrize(("field", "value"), [("loss", FUSED), ("kernels.liger", LIGER)])
def test_one_without_the_other_is_refused(tmp_path: Path, field: str, value: object) -> None:
    reading = trained(tmp_path, LLAMA, "")
    written, advice = edits(reading, [(field, reading.workload.at(field), value)])
    assert not written
    assert "together" in advice[0].message


def test_a_smoothed_loss_keeps_its_logits(tmp_path: Path) -> None:
    reading = trained(tmp_path, LLAMA, "label_smoothing_factor: 0.1\n")
    run = reading.workload
    changes = [("loss", run.loss, FUSED), ("kernels.liger", run.kernels.liger, LIGER)]
    written, advice = edits(reading, changes)
    assert not written
    assert "needs whole logits" in advice[0].message


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (ON + "do_eval: true\n", False),
        ("stage: sft\nfinetuning_type: full\nenable_liger_kernel: true\neval_strategy: steps\n", True),
    ],
)
def test_only_the_trainers_own_switch_has_it_skip_logits_in_evaluation(
    tmp_path: Path, text: str, whole: bool
) -> None:
    run = trained(tmp_path, LLAMA, text, "llamafactory" if whole else None).workload
    assert run.evaluation is not None
    assert run.loss == FUSED
    assert run.evaluation.makes_logits(run.loss) is whole
