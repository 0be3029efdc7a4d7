"""The vocabulary-wide tensors of the loss: T tokens, V vocabulary, half logits unless said otherwise.

transformers upcasts logits to fp32 (4TV beside the 2TV of the logits) and takes a log-softmax of them (4TV,
saved); backward makes two more tensors of 4TV each. So the forward pass peaks at 10TV and backward at 12TV,
or 14TV while the training loop holds the outputs.
"""

from __future__ import annotations

import pytest

from memplan.domain.trace import Phase, Tag
from memplan.domain.workload import Outputs, Precision, Workload
from tests.unit.simulator.runs import AMP, BF16, FP32, at_start, peak, run, shape, workload

T, V = 32, 1000
MODEL = shape(vocab_size=V)


def vocabulary_wide(tag: Tag) -> bool:
    """Logits and what is made of them: T × V elements."""
    return tag[0] != "decoder_matrix" and tag[3] in ((2, 16, V), (T, V))


def case(precision: Precision, *, kept: bool) -> Workload:
    return workload(MODEL, precision=precision, outputs=Outputs.KEPT if kept else Outputs.DROPPED)


@pytest.mark.parametrize(
    ("precision", "kept", "forward", "between", "backward"),
    [
        (BF16, False, 10, 4, 12),
        (BF16, True, 10, 6, 14),
        (AMP, False, 10, 4, 12),
        (AMP, True, 10, 6, 14),
        (FP32, False, 8, 4, 12),
        (FP32, True, 8, 8, 16),
    ],
)
def test_peaks_of_the_loss_are_the_published_multiples_of_tokens_times_vocabulary(
    precision: Precision, kept: bool, forward: int, between: int, backward: int
) -> None:
    trace = run(case(precision, kept=kept))
    assert peak(trace, Phase.LOSS, vocabulary_wide) == forward * T * V
    assert at_start(trace, Phase.BACKWARD, vocabulary_wide) == between * T * V
    assert peak(trace, Phase.BACKWARD, vocabulary_wide) == backward * T * V


def test_kept_outputs_are_replaced_only_after_the_next_forward_pass() -> None:
    twice = case(BF16, kept=True).changed("batch.accumulation", 2).changed("batch.micro", 2)
    assert peak(run(twice), Phase.LOSS, vocabulary_wide) == 12 * T * V


def test_labels_are_padded_shifted_and_let_go() -> None:
    trace = run(case(BF16, kept=False))
    sizes = {tag[2]: trace.sizes[block] for block, tag in enumerate(trace.tags) if tag[1] == "loss"}
    assert sizes["pad"] == 8 * 2 * 17
    assert sizes["contiguous"] == 8 * 2 * 16
