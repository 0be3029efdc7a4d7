"""Log-probabilities from tiles: what TRL's ``ChunkedLogProbFunction`` allocates, in its order.

The order is that of a real run of TRL 1.16 on the CPU (``torch.profiler``), kernels left out.
"""

from __future__ import annotations

from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase, Trace
from memplan.domain.workload import Adapter, Evaluation, Loss, Precision, Sequence, Workload
from memplan.simulator.log_probs import COLUMNS
from tests.unit.simulator.runs import AMP, BF16, peak, run, shape, workload

WIDTH, VOCABULARY = 32, 512
ROWS = (30, WIDTH)
HEAD = (VOCABULARY, WIDTH)
BUFFER = (30, COLUMNS)
CAST, HALF, SINGLE = "to", Dtype.BF16, Dtype.FP32

UNDER_AUTOCAST = [
    ("index", ROWS, SINGLE),
    ("mm_buf", BUFFER, HALF),
    (CAST, ROWS, HALF),
    (CAST, HEAD, HALF),
    ("grad_hidden", ROWS, SINGLE),
    ("grad", HEAD, SINGLE),
    ("mm_buf", BUFFER, HALF),
    (CAST, ROWS, HALF),
    (CAST, HEAD, HALF),
]
IN_BF16 = [
    ("index", ROWS, HALF),
    ("mm_buf", BUFFER, HALF),
    ("grad_hidden", ROWS, SINGLE),
    ("grad_weight", HEAD, SINGLE),
    ("mm_buf", BUFFER, HALF),
    (CAST, ROWS, HALF),
    ("grad", HEAD, HALF),
]


def case(kind: str = "log_probs", vocabulary: int = VOCABULARY, **settings: Any) -> Workload:
    return workload(shape(vocab_size=vocabulary), loss=Loss(kind=kind), **settings)


def large(trace: Trace) -> list[tuple[str, tuple[int, ...], Dtype]]:
    """What the first step allocates for the loss of the size of all tokens, of the head or of a tile."""
    found = [trace.tags[block] for block in trace.events if block >= 0]
    start = next(place for place, tag in enumerate(found) if tag[2] == "index" and tag[3] == ROWS)
    end = next(place for place, tag in enumerate(found) if tag[2] == "index_backward")
    return [(tag[2], tag[3], tag[4]) for tag in found[start:end] if tag[3] in (ROWS, HEAD, BUFFER)]


@pytest.mark.parametrize(("precision", "events"), [(AMP, UNDER_AUTOCAST), (BF16, IN_BF16)])
def test_tensors_come_in_the_order_of_a_real_run(precision: Precision, events: list[Any]) -> None:
    assert large(run(case(precision=precision))) == events


def test_a_frozen_head_has_no_gradient() -> None:
    trace = run(case(adapter=Adapter(rank=4, targets=("q_proj",))))
    assert not [tag for tag in trace.tags if tag[2] in ("grad", "grad_weight") and tag[3] == HEAD]


def test_no_logits_are_ever_whole() -> None:
    long, words = Sequence(length=4096), 4 * COLUMNS
    whole, tiled = (run(case(kind, words, sequence=long)) for kind in ("cross_entropy", "log_probs"))
    assert peak(tiled, Phase.LOSS) < peak(whole, Phase.LOSS) / 8
    assert not [tag for tag in tiled.tags if tag[3][-1:] == (words,)]


def test_evaluation_goes_the_same_way() -> None:
    trace = run(case(evaluation=Evaluation(batch=64)))
    assert ("mm_buf", (64 * 15, COLUMNS)) in {(tag[2], tag[3]) for tag in trace.tags}
