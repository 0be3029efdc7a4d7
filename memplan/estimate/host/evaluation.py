"""Host memory of an evaluation that computes metrics, of one process."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.estimate.host.share import Share, assumed


def evaluation(workload: Workload, shape: Architecture) -> Iterator[Share]:
    """Logits of the batches that come from the GPU at once, in fp32, and once more as they are joined.

    The host collects those of all batches, and how many there are no config says: at least one lot of them
    (``EvalLoopContainer.to_cpu_and_numpy`` in transformers src/transformers/trainer_pt_utils.py).
    """
    asked = workload.evaluation
    assert asked is not None
    rows = (asked.batch or workload.batch.micro) * asked.kept * workload.sequence.length
    logits = rows * shape.vocab_size * Dtype.FP32.itemsize
    yield assumed("evaluation_logits", logits, logits, 2 * logits)
