"""Keys and values with 8 or 4 bits a number, in groups that each have a scale of their own.

8 bits: symmetric, ``code = round(x / scale)`` with ``scale = max|x| / 127``. 4 bits: from the smallest to
the largest of the group, ``code = round((x - middle) / scale + 7.5)`` with ``scale = (high - low) / 15``.
Scales and middles are fp32, so that no group is too large or too small for them. A number comes back within
half a scale.
"""

from __future__ import annotations

from typing import Final

import torch

from memplan.domain.errors import FieldError

BITS: Final = (8, 4)
"""What a number can be stored in, beside as it is."""

_SCALE = 4
"""Bytes of a scale, and of a middle."""


def code_bytes(width: int, bits: int) -> int:
    """Bytes of the codes of ``width`` numbers."""
    return width * bits // 8


def scale_bytes(width: int, bits: int, group: int) -> int:
    """Bytes of the scales (8 bits) or of the scales and middles (4 bits) of ``width`` numbers."""
    return width // group * _SCALE * (1 if bits == 8 else 2)


def check(width: int, bits: int, group: int) -> None:
    """Refuse what cannot be stored so.

    Raises:
        FieldError: other bits than 8 and 4, or groups that do not divide the width, or are odd.
    """
    if bits not in BITS:
        raise FieldError(f"a number of {bits} bits cannot be cached", expected="8 or 4 bits")
    if group < 2 or group % 2 or width % group:
        raise FieldError(
            f"groups of {group} numbers do not divide heads of {width}",
            expected=f"an even divisor of {width}",
        )


def quantize(x: torch.Tensor, bits: int, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (…, code_bytes) uint8 and scales (…, scale_bytes / 4) fp32 of ``x`` (…, width).

    Raises:
        FieldError: ``x`` is not finite everywhere, or see ``check``.
    """
    check(x.shape[-1], bits, group)
    groups = x.to(torch.float32).unflatten(-1, (-1, group))
    if not torch.isfinite(groups).all():
        raise FieldError(
            "keys or values that are infinite or no numbers cannot be quantized",
            hint="cache them as they are, and look where they come from",
        )
    if bits == 8:
        scales = groups.abs().amax(-1, keepdim=True) / 127
        codes = torch.round(groups / _nonzero(scales)).clamp_(-127, 127).to(torch.int8)
        return codes.flatten(-2).view(torch.uint8), scales.squeeze(-1)
    # Halves, and from the middle: the difference of the largest numbers of both signs would be infinite.
    high, low = groups.amax(-1, keepdim=True) / 2, groups.amin(-1, keepdim=True) / 2
    scales, middle = (high - low) / 7.5, high + low
    codes = torch.round((groups - middle) / _nonzero(scales) + 7.5).clamp_(0, 15).to(torch.uint8).flatten(-2)
    return codes[..., 0::2] | codes[..., 1::2] << 4, torch.cat((scales, middle), -1).flatten(-2)


def dequantize(
    codes: torch.Tensor, scales: torch.Tensor, bits: int, group: int, dtype: torch.dtype
) -> torch.Tensor:
    """The numbers again, (…, width) in ``dtype``: what ``quantize`` was given, rounded."""
    if bits == 8:
        numbers = codes.view(torch.int8).to(torch.float32).unflatten(-1, (-1, group))
        return _finite(numbers.mul_(scales.unsqueeze(-1)).flatten(-2), dtype)
    pairs = torch.stack((codes & 15, codes >> 4), -1).flatten(-2)
    both = scales.unflatten(-1, (-1, 2))
    numbers = pairs.to(torch.float32).sub_(7.5).unflatten(-1, (-1, group))
    return _finite(numbers.mul_(both[..., :1]).add_(both[..., 1:]).flatten(-2), dtype)


def _finite(numbers: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """In their type; where rounding went beyond its largest number, that number."""
    most = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    return numbers.clamp_(-most, most).to(dtype)


def _nonzero(scales: torch.Tensor) -> torch.Tensor:
    """Scales to divide by: a group of equal numbers has none."""
    return torch.where(scales == 0, torch.ones_like(scales), scales)
