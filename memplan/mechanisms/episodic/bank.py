"""The slots of an episodic memory: keys, values, and how they were used.

Slots in use always come first: ``size`` of ``capacity``. The tensors are buffers that no ``state_dict``
holds; a memory is saved by itself (``persistence``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memplan.mechanisms.episodic.settings import Settings


class Bank(nn.Module):  # type: ignore[misc]
    """M slots.

    Attributes:
        keys: (M, K), of ``dtype``.
        values: (M, V), of ``dtype``.
        hits: (M,) int64: how often a slot was written or read.
        last_used: (M,) int64: the clock when it last was.
        size: slots in use; the first ones.
        clock: writes and reads so far.
    """

    keys: Tensor
    values: Tensor
    hits: Tensor
    last_used: Tensor

    def __init__(
        self, settings: Settings, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        slots = settings.capacity
        for name, width in (("keys", settings.key_size), ("values", settings.width)):
            rows = torch.zeros(slots, width, dtype=dtype, device=device)
            self.register_buffer(name, rows, persistent=False)
        for name in ("hits", "last_used"):
            counts = torch.zeros(slots, dtype=torch.int64, device=device)
            self.register_buffer(name, counts, persistent=False)
        self.size = 0
        self.clock = 0

    def note_use(self, slots: Tensor) -> None:
        """Count a use of each of ``slots`` (any shape, int64; with repetitions), now."""
        places = slots.flatten()
        self.hits.index_add_(0, places, torch.ones_like(places))
        self.last_used.index_fill_(0, places, self.clock)

    def note_new(self, slots: Tensor) -> None:
        """Begin counting anew for slots (n,) that were just given something else to hold."""
        self.hits.index_fill_(0, slots, 1)
        self.last_used.index_fill_(0, slots, self.clock)

    def keep(self, slots: Tensor) -> None:
        """Drop all slots but ``slots`` (n,), in their order; those freed are zeros again.

        The buffers are new tensors: what was saved of the old ones for backward stays as it is.
        """
        # What inference mode makes could not be written to outside of it.
        with torch.inference_mode(False):
            for name in ("keys", "values", "hits", "last_used"):
                old = getattr(self, name).detach()
                new = torch.zeros_like(old)
                new[: len(slots)] = old.index_select(0, slots.clone())
                setattr(self, name, new)
        self.size = len(slots)

    def clear(self) -> None:
        """Forget everything."""
        self.keep(torch.empty(0, dtype=torch.int64, device=self.keys.device))

    def detach(self) -> None:
        """Cut what gradients would flow through: the end of a truncated backpropagation."""
        self.keys = self.keys.detach()
        self.values = self.values.detach()
