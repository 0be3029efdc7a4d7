"""Kernels of other libraries that take the place of a model's own ops."""

from __future__ import annotations

from dataclasses import dataclass

RMS_NORM, GLU, ROPE = "rms_norm", "glu", "rope"
LIGER = (RMS_NORM, GLU, ROPE)
"""Liger's kernels within blocks: its norms, its SwiGLU and GeGLU, and its rotary positions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """``liger`` names Liger's kernels that are switched on: some of ``LIGER``.

    A model type that Liger does not patch keeps its own ops. Liger's losses are among the losses.
    """

    liger: tuple[str, ...] = ()
