"""How much context a machine's RAM is said to be good for: a table without a model in it.

It is a policy, not an estimate: it knows nothing of layers, heads or precision. What fits follows from the
model, and ``memplan fit --ram`` says it; the two are shown side by side because people ask by RAM.
"""

from __future__ import annotations

from bisect import bisect_right

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError

NAME = "ram-steps"
"""What the table is called where a policy is named."""

TABLE: tuple[tuple[Bytes, int], ...] = tuple(
    (Bytes(gib * 2**30), tokens * 1024) for gib, tokens in ((8, 8), (16, 32), (32, 48), (64, 64), (128, 128))
)
"""RAM and tokens, by steps: each counts up to the next. From 16 to 128 GiB RAM grows eightfold, the context
fourfold, although a cache of keys and values grows with the tokens and nothing else."""


def tokens_for(ram: int) -> int | None:
    """The context that the table names for so many bytes of RAM; None below its first step.

    Raises:
        FieldError: ``ram`` is not a positive whole number.
    """
    if isinstance(ram, bool) or not isinstance(ram, int) or ram < 1:
        raise FieldError(f"RAM of {ram!r}", expected="a whole number of bytes from 1 up")
    step = bisect_right([least for least, _ in TABLE], ram)
    return TABLE[step - 1][1] if step else None
