"""An estimate in one line, for the words that show when a pointer rests on a point."""

from __future__ import annotations

from memplan.domain.estimate import Estimate
from memplan.reporters.words import VERDICTS, size


def judged(found: Estimate) -> str:
    """``rtx3090: 21.3 GiB (19.1 GiB to 21.3 GiB), fits``."""
    device = found.device
    bounds = f" ({size(device.low)} to {size(device.high)})" if device.low < device.high else ""
    if found.target is None or found.verdict is None:
        return f"{size(device.process)}{bounds}"
    return f"{found.target.name}: {size(device.process)}{bounds}, {VERDICTS[found.verdict]}"
