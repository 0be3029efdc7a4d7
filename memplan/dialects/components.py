"""Classes that configs name by their import path, in memplan's terms."""

from __future__ import annotations

from dataclasses import replace

from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Optimizer

OPTIMIZERS: dict[str, str] = {
    "torch.optim.AdamW": "adamw",
    "torch.optim.Adam": "adam",
    "torch.optim.SGD": "sgd",
    "bitsandbytes.optim.AdamW8bit": "adamw_8bit",
    "bitsandbytes.optim.PagedAdamW8bit": "paged_adamw_8bit",
    "bitsandbytes.optim.PagedAdamW": "paged_adamw_32bit",
    "bitsandbytes.optim.PagedAdamW32bit": "paged_adamw_32bit",
    "bitsandbytes.optim.Lion": "lion",
    "bitsandbytes.optim.Lion8bit": "lion_8bit",
    "bitsandbytes.optim.PagedLion": "paged_lion_32bit",
    "bitsandbytes.optim.PagedLion8bit": "paged_lion_8bit",
}
"""Optimizers by what they keep in memory (bitsandbytes/optim of 0.48: ``PagedAdamW`` has 32-bit states)."""


def fuses(before: Optimizer, after: Optimizer, path: str | None) -> bool:
    """Whether all that changes is that an optimizer of PyTorch's, by its import path, becomes fused."""
    own = path is None or path.rpartition(".")[0] in ("", "torch.optim")
    return own and after == replace(before, implementation="fused") != before


def optimizer_class(before: Optimizer, after: Optimizer, usual: str) -> str | None:
    """The class to name in place of the present one, None where it stays.

    ``usual`` is how PyTorch's classes run when their arguments do not say.

    Raises:
        EditRefusedError: more is to change than the class, or no class runs like that by default.
    """
    if after == before:
        return None
    path = next((path for path, name in OPTIMIZERS.items() if name == after.name), None)
    if path is None or after.name == before.name:
        raise EditRefusedError(f"another optimizer is one of {', '.join(OPTIMIZERS)}")
    loops = usual if path.startswith("torch.") else "for_loop"
    kept = (before.set_to_none, before.momentum, before.clipping)
    if (after.set_to_none, after.momentum, after.clipping) != kept or after.implementation != loops:
        raise EditRefusedError(f"{path} runs as {loops}, and nothing else of the optimizer changes with it")
    return path
