"""An estimate in one line, for the words that show when a pointer rests on a point."""

from __future__ import annotations

from memplan.domain.estimate import Estimate
from memplan.reporters.words import VERDICTS, size


def judged(found: Estimate) -> str:
    """``rtx3090: 21.3 GiB (19.1 GiB to 21.3 GiB), fits``."""
    bounds = f" ({size(found.least)} to {size(found.most)})" if found.least < found.most else ""
    if found.target is None or found.verdict is None:
        return f"{size(found.needed)}{bounds}"
    return f"{found.target.name}: {size(found.needed)}{bounds}, {VERDICTS[found.verdict]}"
