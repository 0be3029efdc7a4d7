"""Which unused segments are old: the caching allocator's garbage collection."""

from __future__ import annotations


class Collector:
    """Ages of free blocks, in searches of their pool (``gc_count`` in CUDACachingAllocator.cpp).

    ``threshold`` is what may be reserved before unused segments are given back. ``calls`` counts the searches
    of the large and the small pool.
    """

    __slots__ = ("born", "calls", "threshold")

    def __init__(self, threshold: int) -> None:
        self.threshold = threshold
        self.calls = [0, 0]
        self.born: dict[int, int] = {}

    def note(self, address: int, *, small: bool) -> None:
        """A block becomes free."""
        self.born[address] = self.calls[small]

    def oldest(self, sizes: dict[int, int], excess: int) -> list[int]:
        """Large free segments to give back: those of at least average age, until ``excess`` bytes are met."""
        ages = {address: self.calls[False] - self.born[address] for address in sizes}
        found: list[int] = []
        while excess > 0 and ages:
            average = sum(ages.values()) / len(ages)
            for address in [address for address, age in ages.items() if age >= average]:
                excess -= sizes[address]
                found.append(address)
                del ages[address]
        return found
