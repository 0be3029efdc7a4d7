"""The space that is searched: one option or none per lever, as far as a policy permits.

Two laws of the levers let whole parts of it be judged by one workload; both are tested over random ones. *The
fastest option of a lever is the fastest whatever the others do*, so a choice that is made in part cannot
become faster than with the fastest option of every lever left. *The last option of a lever allocates least
whatever the others do*, to within ``SLACK``, so it cannot come to allocate less than with the last of each.
Of the levers in ``UNRANKED`` (such as the loss, which trades one for the other differently as the batch
grows) all options count as the leanest, and they are chosen early. The second law does not hold of the
micro-batch either: from one to several accumulated passes gradients stay alive in the next forward pass. So
the smallest micro-batch and the present one count as its leanest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.workload import Workload
from memplan.fit.policy import Policy
from memplan.levers import LEVERS, UNRANKED, Lever
from memplan.levers.compatible import compatible
from memplan.levers.cost import slowdown

_RESOLUTION = 2
"""Decimals of a slowdown that count: nobody changes another setting for less than a hundredth of a step."""

SLACK = 16 * 2**20
"""Bytes by which another option may allocate less than the last: scales of states, buffers of kernels."""

Choice = tuple[int, ...]
"""A number per lever in the order of ``Space``, or of the first so many: 0 leaves it alone, n takes its n-th
option."""

Price = tuple[Harm, int, int, float, int]
"""What is minimised before headroom: harm, its degree, new packages, slowdown, number of changed fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One option or none per lever, and the workload they give."""

    choice: Choice
    options: tuple[Option, ...]
    workload: Workload
    slowdown: float
    price: Price

    @property
    def harm(self) -> Harm:
        """The worst harm of its options."""
        return self.price[0]

    @property
    def requires(self) -> tuple[str, ...]:
        """Packages that its options need, sorted."""
        return tuple(sorted({name for option in self.options for name in option.requires}))


class Space:
    """Every choice that a policy permits for a workload."""

    def __init__(self, workload: Workload, policy: Policy) -> None:
        self.workload = workload
        self._target = policy.target
        self._packages_matter = policy.packages_matter
        self._levers = sorted(LEVERS, key=_early)
        offered = (map(policy.labelled, lever.options(workload, policy.target)) for lever in self._levers)
        self.settings: list[dict[int, Option | None]] = [
            {0: None, **{n: option for n, option in enumerate(options, 1) if policy.permits(option)}}
            for options in offered
        ]
        self._leanest = [self._leanest_of(place) for place in range(len(self._levers))]
        self._made: dict[Choice, Candidate] = {}
        self._fast: dict[tuple[Harm, frozenset[str]], Choice] = {}
        self._speeds: dict[tuple[int, int], float] = {}

    def candidate(self, choice: Choice) -> Candidate:
        """The candidate of a whole choice, made once."""
        if choice not in self._made:
            self._made[choice] = self._candidate(choice)
        return self._made[choice]

    def following(self, choice: Choice) -> list[Choice]:
        """The choices that go one lever further."""
        return [(*choice, number) for number in self.settings[len(choice)]]

    def whole(self, choice: Choice) -> bool:
        """Whether a choice says something about every lever."""
        return len(choice) == len(self.settings)

    def bound(self, choice: Choice) -> Price:
        """A price that no choice which begins like this one is below.

        Options that do more harm than those taken, go further or need other packages cost more at any speed.
        """
        options = self._options(choice)
        harm, _, _, _, _ = self._price(options, 1.0)
        packages = frozenset(name for option in options for name in option.requires)
        rest = self._fastest(harm, packages)[len(choice) :]
        return self._price(options, self.candidate((*choice, *rest)).slowdown)

    def leanest(self, choice: Choice) -> Iterator[Candidate]:
        """Candidates that begin like a choice, one of which allocates least of all that do and make sense."""
        for rest in product(*self._leanest[len(choice) :]):
            candidate = self.candidate((*choice, *rest))
            sensible = compatible(candidate.workload)
            yield from (candidate,) if sensible else self._sensible(candidate, len(choice))

    def _sensible(self, candidate: Candidate, chosen: int) -> Iterator[Candidate]:
        """A candidate that makes no sense with each lever left set to its leanest option that does.

        Whatever makes sense differs from it in one of them. Where no one lever helps it stands for all.
        """
        found = []
        for place in range(chosen, len(candidate.choice)):
            for number in reversed(tuple(self.settings[place])):
                other = self.candidate((*candidate.choice[:place], number, *candidate.choice[place + 1 :]))
                if compatible(other.workload):
                    found.append(other)
                    break
        yield from found or [candidate]

    def __iter__(self) -> Iterator[Candidate]:
        """Every candidate, the unchanged workload first."""
        return (self.candidate(choice) for choice in product(*self.settings))

    def _options(self, choice: Choice) -> tuple[Option, ...]:
        taken = {
            self._levers[place].NAME: self.settings[place][number] for place, number in enumerate(choice)
        }
        inorder = (taken.get(lever.NAME) for lever in LEVERS)
        return tuple(option for option in inorder if option is not None)

    def _candidate(self, choice: Choice) -> Candidate:
        options = self._options(choice)
        after = applied(self.workload, options)
        price = slowdown(self.workload, after, self._target)
        return Candidate(
            choice=choice,
            options=options,
            workload=after,
            slowdown=price,
            price=self._price(options, price),
        )

    def _price(self, options: Sequence[Option], time: float) -> Price:
        packages = {name for option in options for name in option.requires}
        return (
            max((option.harm for option in options), default=Harm.EXACT),
            sum(option.degree for option in options),
            len(packages) if self._packages_matter else 0,
            round(time, _RESOLUTION),
            sum(len(option.changes) for option in options),
        )

    def _fastest(self, harm: Harm, packages: frozenset[str]) -> Choice:
        """The fastest option of every lever that costs nothing but time beside such harm and packages."""
        key = harm, packages if self._packages_matter else frozenset()
        if key not in self._fast:
            self._fast[key] = tuple(self._fastest_of(place, *key) for place in range(len(self._levers)))
        return self._fast[key]

    def _fastest_of(self, place: int, harm: Harm, packages: frozenset[str]) -> int:
        def free(option: Option | None) -> bool:
            if option is None:
                return True
            there = not self._packages_matter or packages.issuperset(option.requires)
            return there and option.harm <= harm and not option.degree

        numbers = [number for number, option in self.settings[place].items() if free(option)]
        return min(numbers, key=lambda number: (self._speed(place, number), number))

    def _speed(self, place: int, number: int) -> float:
        """The slowdown of one option alone."""
        option = self.settings[place][number]
        if option is None:
            return 1.0
        if (place, number) not in self._speeds:
            after = applied(self.workload, (option,))
            self._speeds[place, number] = slowdown(self.workload, after, self._target)
        return self._speeds[place, number]

    def _leanest_of(self, place: int) -> tuple[int, ...]:
        numbers, name = tuple(self.settings[place]), self._levers[place].NAME
        if name in UNRANKED:
            return numbers[::-1]
        return tuple(dict.fromkeys((numbers[-1], 0) if name == "micro_batch" else (numbers[-1],)))


def _early(lever: Lever) -> tuple[bool, bool]:
    """Levers whose harm is worst come first, since the least harm is looked for; then those unranked."""
    return lever.HARM < Harm.BEHAVIOUR, lever.NAME not in UNRANKED


def applied(workload: Workload, options: Iterable[Option]) -> Workload:
    """The workload with all changes of the options."""
    for option in options:
        for field, value in option.changes.items():
            workload = workload.changed(field, value)
    return workload
