"""bitsandbytes, loaded without its remarks and without looking for more kernels on a network.

On some CPUs it asks a package named ``kernels`` for one, which fetches it (``backends/cpu/ops.py``, 0.50).
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import Any
from unittest.mock import patch

from memplan.smoke.libraries import installed


def load_bitsandbytes() -> Any:
    """The library, loaded before PEFT does, if it is installed; all later imports find it loaded."""
    logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)
    if installed("bitsandbytes") is None:
        return None
    with patch.dict(sys.modules, {"kernels": None}):
        return import_module("bitsandbytes")
