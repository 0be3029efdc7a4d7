"""A loop over tokens whose results are made anew, written into buffers, or computed for many tokens at once.

``AllocatingLoop``, ``PreallocatedLoop`` and ``BatchedLoop`` run the same ``TokenModel`` and give the same
tokens; ``Buffers`` is the pool that the second one works in, for any code that writes with ``out=``.

    buffers = Buffers({"hidden": BufferShape(sides=(1, 256))})
    with buffers.lent() as lent:
        for token in tokens:
            torch.mm(state, weight, out=lent["hidden"])
"""

from __future__ import annotations

from memplan.mechanisms.buffers.allocating import AllocatingLoop
from memplan.mechanisms.buffers.batched import BatchedLoop
from memplan.mechanisms.buffers.model import TokenModel, TokenSizes
from memplan.mechanisms.buffers.pool import Buffers, BufferShape, Lent
from memplan.mechanisms.buffers.preallocated import PreallocatedLoop

__all__ = [
    "AllocatingLoop",
    "BatchedLoop",
    "BufferShape",
    "Buffers",
    "Lent",
    "PreallocatedLoop",
    "TokenModel",
    "TokenSizes",
]
