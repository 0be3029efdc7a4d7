"""What estimates say of models that are no decoders."""

from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError
from memplan.domain.workload import Attention, Batch, Precision, Quantization, Sequence, Task, Workload
from memplan.estimate import estimate, trace_of
from memplan.families import architecture

BERT = architecture({"model_type": "bert", "num_hidden_layers": 2}, lambda _: None)
T5 = architecture({"model_type": "t5"}, lambda _: None)
VIT = architecture({"model_type": "vit", "num_hidden_layers": 2}, lambda _: None)


@pytest.mark.parametrize("shape", [BERT, VIT, T5], ids=["bert", "vit", "t5"])
def test_an_encoder_does_not_generate(shape: object) -> None:
    with pytest.raises(FieldError, match="does not generate"):
        estimate(Workload(model=shape, task=Task.GENERATE))  # type: ignore[arg-type]


def test_the_workspace_of_patches_widens_the_upper_bound_only() -> None:
    device = estimate(Workload(model=VIT, batch=Batch(micro=4))).device
    (gap,) = [gap for gap in device.gaps if "cuDNN" in gap.reason]
    assert (gap.low, gap.high) == (0, 4 * 3 * 224 * 224 * 4)


def test_an_image_is_as_long_as_its_patches_whatever_the_sequence_length() -> None:
    peaks = {
        estimate(Workload(model=VIT, sequence=Sequence(length=length))).device.peak_allocated
        for length in (1, 4096)
    }
    assert len(peaks) == 1


def test_padding_costs_an_encoder_the_flash_kernel_and_a_mask() -> None:
    plain = Workload(model=BERT, sequence=Sequence(length=512), batch=Batch(micro=16))
    padded = Workload(model=BERT, sequence=Sequence(length=512), batch=Batch(micro=16), causal_mask=True)
    assert estimate(padded).device.peak_allocated > estimate(plain).device.peak_allocated


def test_what_a_classifier_loses_depends_on_its_classes_not_on_words() -> None:
    few, many = (
        architecture({"model_type": "bert", "num_hidden_layers": 2, "num_labels": count}, lambda _: None)
        for count in (2, 1002)
    )
    assert many.parameters - few.parameters == 1000 * (768 + 1)


def test_under_sdpa_every_t5_block_copies_the_bias_and_gets_a_gradient_for_each_sequence() -> None:
    case = Workload(model=T5, batch=Batch(micro=2), sequence=Sequence(length=32))
    trace = trace_of(case, (8, 0))
    made = [tag for tag in trace.tags if tag[1].endswith("SelfAttention") and tag[3][1:] == (8, 32, 32)]
    copies = [tag for tag in made if tag[2] in ("clone", "where") and tag[3][0] == 1]
    gradients = [tag for tag in made if tag[2] == "efficient_backward"]
    # Each of six views is made row-major in the encoder; in the decoder masked before, and passed back.
    assert len(copies) == 6 + 2 * 6 + 6
    assert len(gradients) == 12
    assert {tag[3][0] for tag in gradients} == {2}


@pytest.mark.parametrize(
    "changed",
    [
        {"attention": Attention.FLASH_ATTENTION_2},
        {"attention": Attention.MATH},
        {"precision": Precision(params=Dtype.FP16)},
        {"quantization": Quantization(kind="nf4")},
    ],
    ids=str,
)
def test_what_t5_is_not_simulated_with_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(FieldError):
        estimate(Workload(model=T5, **changed))  # type: ignore[arg-type]


def test_the_length_assumed_of_targets_is_said() -> None:
    device = estimate(Workload(model=T5, sequence=Sequence(length=64))).device
    assert any("targets" in gap.reason for gap in device.gaps)
