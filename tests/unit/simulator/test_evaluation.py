"""Evaluation between steps: a batch larger than those of training decides the peak."""

from __future__ import annotations

from memplan.domain.trace import Phase
from memplan.domain.workload import Adapter, Batch, Checkpointing, Evaluation, Loss
from tests.unit.simulator.runs import at_end, peak, run, shape, workload

RUN = workload(batch=Batch(micro=1), checkpointing=Checkpointing(every=1))
LOGITS = 16 * 96


def evaluated(batch: int, kept: int = 0) -> int:
    return peak(run(RUN.changed("evaluation", Evaluation(batch=batch, kept=kept))))


def test_a_batch_no_larger_than_those_of_training_changes_nothing() -> None:
    assert run(RUN.changed("evaluation", Evaluation(batch=1))).events == run(RUN).events


def test_a_loss_that_trains_without_logits_may_evaluate_with_them() -> None:
    """Liger's forward pass makes them outside of training, unless it is told to skip them."""
    fused = RUN.changed("loss", Loss(kind="fused_linear"))
    assert run(fused.changed("evaluation", Evaluation(batch=1))).events == run(fused).events
    for asked in (Evaluation(batch=0, skip_logits=False), Evaluation(batch=1, kept=1)):
        trace = run(fused.changed("evaluation", asked))
        assert [tag for tag in trace.tags if tag[2] == "log_softmax"]
    assert not [tag for tag in run(fused).tags if tag[2] == "log_softmax"]


def test_a_large_batch_holds_its_logits_beside_parameters_and_states() -> None:
    model = shape()
    resident = 3 * 2 * model.parameters
    found = evaluated(64)
    # Half logits, their copy in fp32 and the log-softmax.
    assert resident + 64 * LOGITS * (2 + 4 + 4) <= found < resident + 64 * LOGITS * (2 + 4 + 4) + 64 * 4096
    assert evaluated(128) - found == 2 * (evaluated(96) - found)


def test_logits_that_are_kept_lie_beside_the_next_ones_and_their_join() -> None:
    assert evaluated(64, kept=4) - evaluated(64, kept=3) >= 64 * LOGITS * 2


def test_nothing_stays_after_an_evaluation() -> None:
    trace = run(RUN.changed("evaluation", Evaluation(batch=64, kept=3)))
    assert at_end(trace) == at_end(run(RUN))
    assert [phase for _, phase in trace.phases][-2:] == [Phase.FORWARD, Phase.LOSS]


def test_dropout_rests() -> None:
    dropped = RUN.changed("adapter", Adapter(rank=4, dropout=0.1))
    trace = run(dropped.changed("evaluation", Evaluation(batch=64)))
    start = [start for start, phase in trace.phases if phase is Phase.FORWARD][-1]
    after = [trace.tags[event][2] for event in trace.events[start:] if event >= 0]
    assert "dropout" not in after
    assert "linear" in after
