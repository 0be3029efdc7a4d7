"""Classes that configs name by their import path, in memplan's terms."""

from __future__ import annotations

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
