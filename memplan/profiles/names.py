"""Names of GPUs as people and drivers write them, folded to one key."""

from __future__ import annotations

import re

_SEPARATORS = re.compile(r"[\s_./()-]+")
_DROPPED = frozenset({"nvidia", "geforce", "tesla", "gpu"})


def folded(name: str) -> str:
    """The key that spellings of one name share: ``"NVIDIA GeForce RTX 3090"`` gives ``"rtx3090"``.

    Case, spaces, dashes, underscores, dots and the words nvidia, geforce, tesla and gpu do not count.
    """
    words = _SEPARATORS.split(name.lower())
    return "".join(word for word in words if word not in _DROPPED)
