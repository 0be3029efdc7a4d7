"""What libraries read from the environment when they are loaded for a run on a CPU."""

from __future__ import annotations

import os

SETTINGS = {
    # PyTorch's profiler tells standard error when it starts.
    "KINETO_LOG_LEVEL": "99",
    # oneDNN keeps the code it made for every product it has seen: resident memory that grows with shapes.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0",
}


def prepare() -> None:
    """Set what nobody has set, before PyTorch is loaded."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
