"""The mapped cache as transformers' models take it.

``model.generate(tokens, past_key_values=mapped_cache(model.config, "/scratch"))``

Layers that attend to everything keep their keys and values in files. Layers with a sliding window, or
without attention, are small whatever the context, and stay transformers' own.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicLayer

from memplan.mechanisms.context.layer import MappedLayer


class MappedCacheLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer of a transformers ``Cache`` whose keys and values lie in a file.

    ``keys`` and ``values`` are views of it, (batch, heads, tokens, width), as the last ``update`` returned
    them. ``before`` is the layer whose turn was before: it gives its resident pages up for this one's.
    """

    is_sliding = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, directory: Path, *, bits: int = 0, group: int = 64) -> None:
        super().__init__()
        self.directory = directory
        self.bits = bits
        self.group = group
        self.file = MappedLayer(directory, bits=bits, group=group)
        self.before: weakref.ref[MappedCacheLayer] | None = None

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Note what is cached; the file is there already."""
        self.dtype, self.device = key_states.dtype, key_states.device
        del value_states
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add new keys and values (batch, heads, tokens, width), and return all.

        Raises:
            FileAccessError: the disk is full.
        """
        del args, kwargs
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.file.append(key_states, value_states)
        before = self.before() if self.before is not None else None
        if before is not None:
            before.rest()
        self._look()
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def rest(self) -> None:
        """Hold no pages and no copies until the layer's turn comes again."""
        self.keys = self.values = None
        self.file.release()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """All cached tokens and the new ones are attended to, from the first on."""
        return self.file.tokens + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens that are cached."""
        return self.file.tokens

    def get_max_length(self) -> int:
        """None but the disk's: -1."""
        return -1

    def offload(self) -> None:
        """The cache is on a disk already."""

    def prefetch(self) -> None:
        """Pages come when they are read."""

    def reset(self) -> None:
        """Forget everything."""
        self.rest()
        self.file.close()
        self.file = MappedLayer(self.directory, bits=self.bits, group=self.group)
        self.is_initialized = False

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` tokens, as assisted generation asks for."""
        self.rest()
        self.file.truncate(max(0, self.file.tokens - abs(tokens_to_remove)))

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Give every beam the cache of the one it goes on from."""
        self.batch_select_indices(beam_idx)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these entries of the batch, in this order."""
        self.rest()
        self.file.select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Have every entry of the batch ``repeats`` times."""
        if self.file.row is not None:
            self.batch_select_indices(torch.arange(self.file.row.batch).repeat_interleave(repeats))

    def _look(self) -> None:
        keys, values = self.file.read()
        self.keys, self.values = keys.to(self.device), values.to(self.device)


def mapped_cache(
    config: PreTrainedConfig, directory: str | Path | None = None, *, bits: int = 0, group: int = 64
) -> Cache:
    """A cache for a model of this ``config``, with files in ``directory`` (default: for temporary files).

    Their disk space is free again when the cache is gone. With ``bits`` 0 a model computes what it does with
    ``DynamicCache``, to the last bit.

    Raises:
        FileAccessError: the directory is missing or cannot be written to.
    """
    place = Path(gettempdir() if directory is None else directory)
    cache = DynamicCache(config=config)
    mapped = [
        MappedCacheLayer(place, bits=bits, group=group) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]
    ours = [layer for layer in mapped if isinstance(layer, MappedCacheLayer)]
    # Each layer comes after another one, the first after the last of the step before.
    for before, layer in zip((ours[-1:] + ours[:-1]) if len(ours) > 1 else (), ours, strict=False):
        layer.before = weakref.ref(before)
    return Cache(layers=mapped)
