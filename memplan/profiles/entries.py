"""What a profile file holds once it is read: a model of the hub, a named profile of a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

AllowedHarm = Literal["exact", "numeric", "behaviour"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProfile:
    """A model on the hub: the fields of its ``config.json`` that decide memory, and its size.

    ``parameters`` is the exact number of weights, tied matrices counted once.
    """

    id: str
    architecture: str
    config: Mapping[str, object]
    parameters: int
    source: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedProfile:
    """How boldly to plan for one GPU, under a name a user can choose.

    ``margin`` is the fraction of the usable memory to keep free, ``allow`` the worst harm for values
    not declared tunable. ``rungs`` are values for a manifest's tunable names, in order of preference:
    the first rung that fits with the margin is taken.
    """

    name: str
    gpu: str
    summary: str
    margin: float
    allow: AllowedHarm
    rungs: tuple[Mapping[str, int], ...]
    default: bool
