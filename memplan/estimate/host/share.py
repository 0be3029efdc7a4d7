"""A share of host memory, with how far it may be from the truth."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Basis, Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """``bytes`` of host memory, at least ``low`` and at most ``high``."""

    name: str
    bytes: int
    basis: Basis
    low: int
    high: int

    def times(self, processes: int) -> Share:
        """The share of so many processes."""
        return Share(
            name=self.name,
            bytes=self.bytes * processes,
            basis=self.basis,
            low=self.low * processes,
            high=self.high * processes,
        )

    def component(self) -> Component:
        """The share as reports show it."""
        return Component(name=self.name, bytes=Bytes(self.bytes), basis=self.basis)


def modelled(name: str, amount: int) -> Share:
    """A share that follows from the sources."""
    return Share(name=name, bytes=amount, basis=Basis.MODELLED, low=amount, high=amount)


def between(name: str, amount: int, most: int) -> Share:
    """A share that follows from the sources but for how it is rounded."""
    return Share(name=name, bytes=amount, basis=Basis.MODELLED, low=amount, high=most)


def measured(name: str, amount: int, low: int, high: int) -> Share:
    """A share that was seen on this machine, and how far it went from that."""
    return Share(name=name, bytes=amount, basis=Basis.MEASURED, low=low, high=high)


def assumed(name: str, amount: int, low: int, high: int) -> Share:
    """A share that is only known within bounds."""
    return Share(name=name, bytes=amount, basis=Basis.ASSUMED, low=low, high=high)
