"""The libraries the simulator is compared with, and the reason to skip where they are absent."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

import pytest


def library(name: str) -> Any:
    """Import torch, transformers or peft; skip the test module without it, but fail in CI.

    What they warn about while loading is not about memplan.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if os.environ.get("CI"):
            return importlib.import_module(name)
        return pytest.importorskip(name, reason=f"{name} is not installed: pip install 'memplan[smoke]'")
