"""The libraries a smoke test needs, and what to do where they are missing."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from memplan.domain.architecture import DeclaredModel
from memplan.domain.errors import InputError
from memplan.domain.framework import Framework
from memplan.domain.workload import Task, Workload
from memplan.simulator.optimizers import OPTIMIZERS, bitsandbytes

HINT = "pip install 'memplan[smoke]'"

IN_EXTRA = ("torch", "transformers", "peft")
"""What that installs."""

BITSANDBYTES = tuple(name for name, update in OPTIMIZERS.items() if update is bitsandbytes.update)
"""Optimizers of bitsandbytes."""


def require(workload: Workload) -> Framework:
    """The releases that are installed.

    Raises:
        InputError: torch, transformers (for models that are known), peft (for adapters) or bitsandbytes (for
            its optimizers, and for weights in few bits) is not installed.
    """
    if isinstance(workload.model, DeclaredModel):
        return Framework(torch=needed("torch")["torch"])
    found = needed("torch", "transformers", *_others(workload))
    return Framework(torch=found["torch"], transformers=found["transformers"])


def _others(workload: Workload) -> Iterator[str]:
    if workload.adapter is not None:
        yield "peft"
    bits = workload.quantization is not None
    if bits or (workload.task is Task.TRAIN and workload.optimizer.name in BITSANDBYTES):
        yield "bitsandbytes"
    if bits:
        yield "accelerate"


def needed(*names: str) -> dict[str, str]:
    """The installed releases of libraries.

    Raises:
        InputError: one of them is not installed.
    """
    found = {name: installed(name) for name in names}
    missing = [name for name, release in found.items() if release is None]
    if missing:
        others = [name for name in missing if name not in IN_EXTRA]
        raise InputError(f"a smoke test needs {' and '.join(missing)}", hint=" ".join([HINT, *others]))
    return {name: str(release) for name, release in found.items()}


def for_gpus() -> bool:
    """Whether the installed PyTorch is not one for CPUs only, by the local part of its release."""
    try:
        return not version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def installed(name: str) -> str | None:
    """The installed release of a library, without a local part such as ``+cpu``."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None
