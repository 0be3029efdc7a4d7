"""Which ops of a model Liger's kernels replace: what the modules of a block look up before they run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """Root-mean-square norms, gated MLPs and rotary positions, each replaced or not.

    ``in_place`` says that the norms' backward writes into the gradient it is given.
    """

    rms_norm: bool = False
    in_place: bool = True
    glu: bool = False
    rope: bool = False


NONE = Patches()
"""The model's own ops."""
