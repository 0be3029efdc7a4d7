"""What a memory is given: checked before anything of it is used."""

from __future__ import annotations

import torch
from torch import Tensor

from memplan.domain.errors import InputError


def rows(given: Tensor, width: int, name: str) -> Tensor:
    """``given`` (…, width) as a matrix (n, width): a view where that is possible.

    Raises:
        InputError: it has no axes, another width, no floating point numbers, or one that is not finite.
    """
    if given.dim() == 0 or given.shape[-1] != width:
        raise InputError(f"{name} has the shape {tuple(given.shape)}", expected=f"(…, {width})")
    if not given.is_floating_point():
        raise InputError(f"{name} holds {given.dtype}", expected="floating point numbers")
    flat = given.reshape(-1, width)
    if len(flat) and not _finite(flat):
        raise InputError(
            f"{name} holds NaN or infinity", expected="finite numbers", hint="nothing was written or read"
        )
    return flat


def _finite(flat: Tensor) -> bool:
    # The extremes take two numbers, isfinite a mask as large as the input. Both are NaN if any number is.
    lowest, highest = torch.aminmax(flat.detach())
    return bool(lowest > float("-inf")) and bool(highest < float("inf"))
