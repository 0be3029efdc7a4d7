"""Models of the Hugging Face hub: the files this machine has of them, and, only when asked, the hub itself.

``cache`` finds what is on disk and never opens a connection; ``online`` is the one module that does.
``safetensors`` reads headers of weight files, ``notes`` keeps those read from afar.
"""

from __future__ import annotations

from pathlib import Path

from memplan.domain.published import Published
from memplan.hub import cache

__all__ = ["cached", "fetch", "published"]


def cached(hub_id: str) -> Path | None:
    """The folder that holds a model's ``config.json`` in the cache of the hub, or None."""
    return cache.snapshot(hub_id)


def fetch(hub_id: str) -> Path:
    """The same after asking the hub, whose answer stays in the cache.

    Raises:
        HubError: the model is not there or not open to the user, or the hub does not answer.
    """
    from memplan.hub import online

    return online.fetch(hub_id)


def published(folder: Path) -> Published | None:
    """What the weights in a model's folder say, or said when the hub was asked; None where there are none.

    Raises:
        DocumentError: a file there is no safetensors file.
    """
    from memplan.hub import notes, safetensors

    return safetensors.of_folder(folder) or notes.recall(folder)
