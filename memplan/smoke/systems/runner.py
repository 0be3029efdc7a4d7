"""How each mechanism's library is used: one module per mechanism, listed in ``RUNNERS``.

``start`` makes what is there from the start, and each ``step`` is one round of the run that the program
simulates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

import torch

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.domain.setting import Settings
from memplan.estimate.mechanism import settings_of
from memplan.smoke.cpu.conditions import plain_cpu
from memplan.smoke.cpu.surroundings import own_words, use_libraries, without_collector
from memplan.smoke.meter import Meter, Named

RUNNERS: tuple[str, ...] = ("buffers", "episodic_memory", "equilibrium_propagation", "large_context")
"""The mechanisms that can be run: modules of this folder."""


class Runner(Protocol):
    """One mechanism at work."""

    def tensors(self) -> Iterator[Named]:
        """What is there from the start and stays."""

    def step(self, meter: Meter, /) -> None:
        """One round; the meter is told of every phase that the program has."""


class Module(Protocol):
    """What a module of this folder offers."""

    NAME: str

    def start(self, settings: Settings, /) -> Runner:
        """The mechanism on the CPU, with random contents."""


@runtime_checkable
class Scaled(Module, Protocol):
    """One whose settings may ask for hours on a CPU."""

    def scaled(self, settings: Settings, /) -> Settings:
        """Settings that take seconds and do the same in small; the same ones if they do already."""


@runtime_checkable
class Filing(Runner, Protocol):
    """A mechanism that keeps files: ``disk`` is what they took at most, ``proof`` what else was looked at."""

    disk: Bytes
    proof: str


def runner(model: DeclaredModel) -> Runner:
    """The mechanism of a model, made.

    Raises:
        InputError: nobody wrote how to run it.
    """
    return module_of(model).start(settings_of(model))


def module_of(model: DeclaredModel) -> Module:
    name = model.mechanism
    if name not in RUNNERS:
        raise InputError(f"the mechanism {name} cannot be run", expected=", ".join(RUNNERS))
    return cast(Module, import_module(f"memplan.smoke.systems.{name}"))


@contextmanager
def conditions() -> Iterator[None]:
    """What every run of a mechanism is made under: warm libraries, the same numbers, nothing collected."""
    with without_collector(), own_words(), torch.random.fork_rng(devices=[]), plain_cpu(onednn=True):
        torch.manual_seed(0)
        use_libraries()
        yield
