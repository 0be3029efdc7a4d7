"""Plans that need no estimate: found with few questions, and never one that may fit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.fit.hopeless import BY_FAR, Hopeless, Picked

BATCHES: list[Option | None] = [
    None,
    *(
        Option(changes={"batch": 1024 >> cut}, harm=Harm.BEHAVIOUR, reason="smaller", degree=cut)
        for cut in range(1, 11)
    ),
]
FORMS: list[Option | None] = [None, Option(changes={"form": "in_place"}, harm=Harm.EXACT, reason="again")]
KINDS = [FORMS, BATCHES]


def bytes_of(picked: Picked) -> int:
    form, batch = picked
    size = 1024 if batch is None else batch.changes["batch"]
    assert isinstance(size, int)
    return 100 + size * (1 if form else 2)


@given(st.integers(1, 4000), st.sampled_from(FORMS))
def test_what_is_given_up_is_too_large_by_far(room: int, form: Option | None) -> None:
    hopeless = Hopeless(KINDS, room, bytes_of)
    hopeless.look((form, None))
    too_large = [batch for batch in BATCHES if bytes_of((form, batch)) > room * BY_FAR]
    given_up = [batch for batch in BATCHES if (form, batch) in hopeless]
    # The last that is too large was asked for, and so is no part of what need not be.
    assert given_up == too_large[:-1]


def test_few_are_asked_for() -> None:
    asked: list[Picked] = []

    def needs(picked: Picked) -> int:
        asked.append(picked)
        return bytes_of(picked)

    Hopeless(KINDS, 300, needs).look((None, None))
    assert len(asked) <= 5


def test_where_nothing_is_cut_down_step_by_step_nothing_is_given_up() -> None:
    hopeless = Hopeless([FORMS], 1, lambda _: 10**9)
    hopeless.look((None,))
    assert (None,) not in hopeless


def test_what_makes_no_sense_is_not_too_large() -> None:
    hopeless = Hopeless(KINDS, 300, lambda _: None)
    hopeless.look((None, None))
    assert (None, None) not in hopeless
