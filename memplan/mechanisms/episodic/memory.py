"""An episodic memory: keys and values in a bank that is written and read by similarity."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from memplan.domain.errors import InputError
from memplan.mechanisms.episodic import chunks, consolidation, inputs, persistence
from memplan.mechanisms.episodic.bank import Bank
from memplan.mechanisms.episodic.reading import Recalled, recall
from memplan.mechanisms.episodic.settings import Settings
from memplan.mechanisms.episodic.writing import Written, carry_out, place


class EpisodicMemory(nn.Module):  # type: ignore[misc]
    """A memory of ``settings.capacity`` slots.

    The bank takes capacity × (K + V) numbers and two int64 per slot; nothing of it is in a ``state_dict``.
    Writing and reading take what ``chunks.written`` and ``chunks.recalled`` say beside it.

    Example::

        memory = EpisodicMemory(Settings(capacity=5000, key_size=768))
        memory.write(keys, values)
        answer = memory.read(queries).values
    """

    def __init__(
        self, settings: Settings, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        self.settings = settings
        self.bank = Bank(settings, dtype=dtype, device=device)

    def __len__(self) -> int:
        """Slots in use."""
        return self.bank.size

    def write(self, keys: Tensor, values: Tensor) -> Written:
        """Remember ``values`` (…, V) under ``keys`` (…, K), of as many rows each.

        Without ``gradient_safe`` the bank changes in place and no gradient goes into it; with it, the bank's
        tensors are new, and gradients flow from later reads to what was written, until ``detach``.

        Raises:
            InputError: a width is not the bank's, the numbers of rows differ, or a number is not finite.
                The bank is unchanged.
        """
        flat_keys = inputs.rows(keys, self.settings.key_size, "keys")
        flat_values = inputs.rows(values, self.settings.width, "values")
        if len(flat_keys) != len(flat_values):
            raise InputError(f"{len(flat_keys)} keys come with {len(flat_values)} values")
        with torch.no_grad():
            placement = place(self.bank, flat_keys, self.settings)
        with torch.set_grad_enabled(self.settings.gradient_safe and torch.is_grad_enabled()):
            return carry_out(self.bank, flat_keys, flat_values, placement, self.settings)

    def read(self, queries: Tensor) -> Recalled:
        """Answer ``queries`` (…, K); every slot that an answer is made of counts as used.

        Raises:
            InputError: the width is not the bank's, or a number is not finite.
        """
        flat = inputs.rows(queries, self.settings.key_size, "queries")
        values, similarity, slots = recall(self.bank, flat, self.settings)
        self.bank.clock += 1
        for span in chunks.spans(len(slots), self.settings.read_chunk):
            self.bank.note_use(slots[span])
        shape = queries.shape[:-1]
        return Recalled(
            values=values.view(*shape, values.shape[1]),
            similarity=similarity.view(*shape, similarity.shape[1]),
            slots=slots.view(*shape, slots.shape[1]),
        )

    def chunks_for(self, free: int, queries: int) -> tuple[int, int]:
        """The largest chunks for writing and reading ``queries`` rows in ``free`` bytes with a full bank.

        Raises:
            InputError: not even one query fits.
        """
        item = self.bank.keys.element_size()
        found = []
        for needs in (chunks.written, chunks.recalled):
            fixed, each = needs(self.settings, self.settings.capacity, item, queries)
            found.append(chunks.fitting(free, fixed, each, queries))
        return found[0], found[1]

    def consolidate(self, threshold: float = 0.95) -> int:
        """Merge near-duplicates; returns how many slots that frees. See ``consolidation.merge``."""
        return consolidation.merge(self.bank, threshold, self.settings.write_chunk)

    def prune(
        self, *, least_hits: int = 0, longest_idle: int | None = None, at_most: int | None = None
    ) -> int:
        """Drop slots that are used little; returns how many. See ``consolidation.prune``."""
        return consolidation.prune(
            self.bank, least_hits=least_hits, longest_idle=longest_idle, at_most=at_most
        )

    def clear(self) -> None:
        """Forget everything."""
        self.bank.clear()

    def detach(self) -> None:
        """Cut what gradients would flow through, at the end of a step with ``gradient_safe``."""
        self.bank.detach()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the slots in use to a file, at once or not at all. See ``persistence.save``."""
        persistence.save(self.bank, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Replace what is remembered by what a file holds. See ``persistence.load``."""
        persistence.load(self.bank, path)
