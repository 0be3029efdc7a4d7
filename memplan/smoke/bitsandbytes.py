"""bitsandbytes, loaded without its remarks and without looking for more kernels on a network.

On some CPUs it asks a package named ``kernels`` for one, which fetches it (``backends/cpu/ops.py``, 0.50).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from memplan.smoke.libraries import installed


def load_bitsandbytes() -> Any:
    """The library, loaded before PEFT does, if it is installed; all later imports find it loaded."""
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    if installed("bitsandbytes") is None:
        return None
    with _absent("kernels"):
        return import_module("bitsandbytes")


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """As if a package were not installed, until the block ends; what is loaded meanwhile stays loaded."""
    modules: dict[str, Any] = sys.modules
    loaded = modules.get(name, _absent)
    modules[name] = None
    try:
        yield
    finally:
        if loaded is _absent:
            del modules[name]
        else:
            modules[name] = loaded
