"""Host memory as PyTorch asks for it: blocks of the very size, given back at once."""

from __future__ import annotations

from memplan.simulator.allocator import Allocator, ExhaustedError


class ExactAllocator(Allocator):
    """Takes what is asked and keeps nothing: what is reserved is what is in use.

    ``DefaultCPUAllocator`` passes every request on to the C library (c10/core/CPUAllocator.cpp).
    """

    __slots__ = ()

    def allocate(self, size: int) -> int:
        """Take a block of ``size`` bytes; returns its address.

        Raises:
            ExhaustedError: the budget has less left.
        """
        if self.allocated + size > self.budget:
            raise ExhaustedError(size)
        self.frontier += 1
        self.sizes[self.frontier] = size
        self.allocated += size
        self.reserved = self.allocated
        self.highest = max(self.highest, self.allocated)
        return self.frontier

    def release(self, address: int) -> None:
        """Return a block."""
        self.allocated -= self.sizes.pop(address)
        self.reserved = self.allocated
