"""A setting that is not simulated is what it does to memory, wherever its file says so."""

from __future__ import annotations

from memplan.domain.workload import Unmodelled


def test_a_line_that_moves_makes_no_other_setting() -> None:
    before = Unmodelled(reason="train.yml:3: torch_compile", shrinks=("activations",))
    after = Unmodelled(reason="train.yml:4: torch_compile", shrinks=("activations",))
    assert before == after
    assert hash(before) == hash(after)
    assert before != Unmodelled(reason=before.reason, grows=("activations",))
