"""Settings of PyTorch's allocator for a run, as environment variables: in force from CUDA's start on.

PyTorch reads them once, when its allocator is first asked for something, so they are set before torch is
imported. ``PYTORCH_ALLOC_CONF`` would win over the older name (``AcceleratorAllocatorConfig::instance`` in
c10/core/AllocatorConfig.h), so it is taken away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

from memplan.domain.allocator import VARIABLE, AllocatorOptions
from memplan.domain.errors import InputError

NEWER = "PYTORCH_ALLOC_CONF"


def prepare(options: AllocatorOptions, environment: MutableMapping[str, str] = os.environ) -> tuple[str, ...]:
    """Set what a workload's allocator is told; returns a note for every setting that was replaced.

    Raises:
        InputError: this process uses CUDA already, under other settings.
    """
    found = {name: environment[name] for name in (VARIABLE, NEWER) if environment.get(name)}
    wanted = options.text
    if all(value == wanted for value in found.values()) and bool(found) == bool(wanted):
        return ()
    if _started():
        raise InputError(
            "CUDA is in use in this process already, so its allocator keeps the settings it has",
            hint=f"set {VARIABLE}={wanted} before Python starts",
        )
    for name in found:
        del environment[name]
    if wanted:
        environment[VARIABLE] = wanted
    told = wanted or "none"
    return tuple(
        f"{name}={value} was set here; the run has what is planned: {told}" for name, value in found.items()
    )


def _started() -> bool:
    """Whether torch is loaded and has begun with CUDA."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())
