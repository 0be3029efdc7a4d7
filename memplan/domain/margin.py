"""Memory to keep free, as people write it: a share of what can be used, or an amount."""

from __future__ import annotations

import re
from decimal import Decimal

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, Location
from memplan.domain.target import Target

_SHARE = re.compile(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*%\s*", re.ASCII)


def margin_bytes(text: str, target: Target, location: Location | None = None) -> Bytes:
    """``"10%"`` of the target's limit (rounded up to a byte), or ``"500MiB"``.

    Raises:
        FieldError: it is neither, or leaves nothing to use.
    """
    match = _SHARE.fullmatch(text)
    try:
        amount = share(Decimal(match[1]) / 100, target) if match else Bytes.parse(text)
    except ValueError as error:
        expected = "a margin such as 10% or 500MiB"
        raise FieldError(str(error), location=location, expected=expected) from None
    if amount >= target.limit:
        raise FieldError(
            f"a margin of {text.strip()} leaves nothing of {target.name}'s {target.limit.rounded()}",
            location=location,
            expected="less than the memory that can be used",
        )
    return amount


def share(fraction: Decimal, target: Target) -> Bytes:
    """A fraction of what the target lets a process use, rounded up to a whole byte."""
    return Bytes(-(-(fraction * int(target.limit)) // 1))
