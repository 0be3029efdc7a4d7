"""Plans that need no estimate: those that go less far than one that is too large by far.

Options of a kind that differ in ``degree`` are sizes cut down further and further, such as a batch halved
once to ten times. With everything else alike, going further never takes more memory, but for what the
caching allocator makes of other sizes, which ``BY_FAR`` allows for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memplan.domain.plan import Option

Picked = tuple[Option | None, ...]
"""Of every kind the option that is taken, None for none."""

BY_FAR = 1.25
"""How often the room has to be exceeded for what goes less far to be given up with it."""


class Hopeless:
    """What is known to be too large without an estimate; ``needs`` estimates one, in bytes."""

    def __init__(
        self, kinds: Sequence[Sequence[Option | None]], room: int, needs: Callable[[Picked], int | None]
    ) -> None:
        self._cut = _most_cut(kinds)
        self._kinds = kinds
        self._most = room * BY_FAR
        self._needs = needs
        self._furthest: dict[tuple[int, ...], int] = {}

    def __contains__(self, picked: Picked) -> bool:
        """Whether one that goes at least as far, and is the same otherwise, is too large by far."""
        if self._cut is None:
            return False
        line = self._line(picked)
        return line in self._furthest and _degree(picked[self._cut]) < self._furthest[line]

    def look(self, picked: Picked) -> None:
        """Find the furthest that is too large by far, of all that differ from one in how far they go only."""
        if self._cut is None or (line := self._line(picked)) in self._furthest:
            return
        along = sorted(self._kinds[self._cut], key=_degree)
        low, high = 0, len(along)
        if self._too_large(picked, along[-1]):
            low = high
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._too_large(picked, along[middle]) else (low, middle)
        self._furthest[line] = _degree(along[low - 1]) if low else 0

    def _line(self, picked: Picked) -> tuple[int, ...]:
        """What is picked of the other kinds."""
        return tuple(id(option) for place, option in enumerate(picked) if place != self._cut)

    def _too_large(self, picked: Picked, option: Option | None) -> bool:
        assert self._cut is not None
        needs = self._needs((*picked[: self._cut], option, *picked[self._cut + 1 :]))
        return needs is not None and needs > self._most


def _degree(option: Option | None) -> int:
    return 0 if option is None else option.degree


def _most_cut(kinds: Sequence[Sequence[Option | None]]) -> int | None:
    """The kind with the most options, of those whose every option goes further than the last."""
    found = [
        (len(kind), place)
        for place, kind in enumerate(kinds)
        if len(kind) > 2 and len({_degree(option) for option in kind}) == len(kind)
    ]
    return max(found, default=(0, None))[1]
