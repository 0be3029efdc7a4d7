"""Softmax before PyTorch 1.11, which kept its input for nothing but its dtype."""

from __future__ import annotations

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.simulator.attention import softmax
from memplan.simulator.autograd import require_grad
from memplan.simulator.ops import mul_scalar
from memplan.simulator.tensor import Tape

BYTES = 4 * 8 * 8


@pytest.mark.parametrize(("release", "kept"), [("1.10", 2), ("1.11", 1), ("2.14", 1)])
def test_only_older_releases_keep_the_scores_for_backward(release: str, kept: int) -> None:
    tape = Tape((7, 0), Framework(torch=release))
    leaf = require_grad(tape.empty((8, 8), Dtype.FP32, "scores"), "leaf")
    before = _held(tape)
    result = softmax(mul_scalar(leaf))
    assert result.node is not None
    assert _held(tape) - before == kept * BYTES


def _held(tape: Tape) -> int:
    trace = tape.trace
    return sum(trace.sizes[event] if event >= 0 else -trace.sizes[~event] for event in trace.events)
