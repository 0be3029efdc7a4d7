"""What estimates say of models that are no decoders."""

from __future__ import annotations

import pytest

from memplan.domain.errors import FieldError
from memplan.domain.workload import Batch, Sequence, Task, Workload
from memplan.estimate import estimate
from memplan.families import architecture

BERT = architecture({"model_type": "bert", "num_hidden_layers": 2}, lambda _: None)
VIT = architecture({"model_type": "vit", "num_hidden_layers": 2}, lambda _: None)


@pytest.mark.parametrize("shape", [BERT, VIT], ids=["bert", "vit"])
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
