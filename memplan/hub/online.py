"""Asking the hub: the only module that opens a connection, and only after ``--online``.

``config.json`` is downloaded into the hub's own cache, of weight files nothing but the headers is read.
``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` and ``HF_HUB_ETAG_TIMEOUT`` mean what they mean to
huggingface_hub, which does the talking.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memplan.domain.errors import HubError, MemplanError
from memplan.hub import cache, notes, packing, safetensors

INSTALL = "pip install 'memplan[hub]'"
SECONDS = 10.0
"""How long the hub may take to answer a question (huggingface_hub's own default)."""

CONFIG = "config.json"
_YES = {"1", "true", "yes", "on"}


def fetch(hub_id: str) -> Path:
    """The folder of the cache that holds the model's ``config.json`` of today.

    Raises:
        HubError: see the module's other functions; the message says what to try.
    """
    if cache.HUB_ID.fullmatch(hub_id) is None:
        raise HubError(f"{hub_id!r} cannot be a model on the hub", expected="an id such as owner/name")
    if os.environ.get("HF_HUB_OFFLINE", "").strip().lower() in _YES:
        raise HubError(
            f"{hub_id}: --online asks the hub, and HF_HUB_OFFLINE forbids it", hint="unset one of them"
        )
    hub = _library()
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="memplan")
    with _explained(hub_id, hub.errors, api.endpoint):
        _ask(hub, api, hub_id)
        folder = _config(api, hub_id)
        if safetensors.of_folder(folder) is None and notes.recall(folder) is None:
            _headers(hub, api, hub_id, folder)
    return folder


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        from huggingface_hub.utils import disable_progress_bars
    except ImportError:
        raise HubError("--online needs huggingface_hub, which is not installed", hint=INSTALL) from None
    disable_progress_bars()
    return huggingface_hub


def _config(api: Any, hub_id: str) -> Path:
    path = api.hf_hub_download(
        hub_id, CONFIG, cache_dir=cache.root(), etag_timeout=_seconds(), token=_token()
    )
    return Path(path).parent


def _ask(hub: Any, api: Any, hub_id: str) -> None:
    """One question that fails at once: a download would try for half a minute before it says the same."""
    url = hub.hf_hub_url(hub_id, CONFIG, endpoint=api.endpoint)
    api.get_hf_file_metadata(url=url, timeout=_seconds(), token=_token())


def _headers(hub: Any, api: Any, hub_id: str, folder: Path) -> None:
    try:
        found = api.get_safetensors_metadata(hub_id, revision=folder.name, token=_token())
    except hub.errors.NotASafetensorsRepoError:
        return
    tensors = [
        packing.Tensor.of(name, str(entry.dtype), tuple(entry.shape), safetensors.ITEM_BITS[str(entry.dtype)])
        for file in found.files_metadata.values()
        for name, entry in file.tensors.items()
    ]
    notes.keep(folder, packing.summary(tensors, files=len(found.files_metadata)))


def _seconds() -> float:
    try:
        return float(os.environ.get("HF_HUB_ETAG_TIMEOUT", SECONDS))
    except ValueError:
        return SECONDS


def _token() -> str | None:
    """A token of the environment as it is now; otherwise huggingface_hub finds the one of its login."""
    return os.environ.get("HF_TOKEN") or None


@contextmanager
def _explained(hub_id: str, errors: Any, endpoint: str) -> Iterator[None]:
    """What huggingface_hub raises, as one error with a way out."""
    try:
        yield
    except MemplanError:
        raise
    except errors.GatedRepoError:
        raise HubError(
            f"{hub_id} is gated: its owner has to let you in",
            hint=f"accept its terms at {endpoint}/{hub_id}, then hf auth login or set HF_TOKEN",
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"the hub has no model {hub_id}, or does not show it to you",
            hint="check the spelling; for a private model hf auth login or set HF_TOKEN",
        ) from None
    except errors.LocalEntryNotFoundError as error:
        raise _silent(hub_id, endpoint, error) from None
    except errors.EntryNotFoundError:
        raise HubError(
            f"{hub_id} has no config.json on the hub",
            hint="name the base model, or a local directory with the model's config.json",
        ) from None
    except errors.SafetensorsParsingError as error:
        raise HubError(f"{hub_id}: a weight file on the hub is not safetensors: {_first(error)}") from None
    except errors.HfHubHTTPError as error:
        raise _refused(hub_id, endpoint, error) from None
    except Exception as error:
        # Which HTTP library speaks, and so what it raises, is up to the release of huggingface_hub.
        raise _silent(hub_id, endpoint, error) from None


def _refused(hub_id: str, endpoint: str, error: Any) -> HubError:
    status = getattr(getattr(error, "response", None), "status_code", "?")
    hint = "hf auth login, or set HF_TOKEN" if status in (401, 403) else "try again later"
    return HubError(f"{hub_id}: {endpoint} answered {status}", hint=hint)


def _silent(hub_id: str, endpoint: str, error: Exception) -> HubError:
    return HubError(
        f"{hub_id}: {endpoint} could not be reached: {_first(error)}",
        hint="check the network and HF_ENDPOINT, or name a directory with the model's config.json",
    )


def _first(error: Exception) -> str:
    """The first sentence of a message, which is often a paragraph."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
