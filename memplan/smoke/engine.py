"""How PyTorch's autograd engine adds up gradients: a dispatch mode keeps it from doing so in its usual way.

``InputBuffer::accumulate`` (torch/csrc/autograd/input_buffer.cpp) adds in place when nobody else holds
the first gradient. Under any dispatch mode ``isTensorSubclassLike`` is true, and it adds into a new tensor.
The conditions of the usual way are therefore tested here.
"""

from __future__ import annotations

from typing import Any

import torch

from memplan.simulator.layout import is_dense

Counts = tuple[int, int]
"""References to a tensor and to its storage."""


def counts(tensor: Any) -> Counts:
    """Who holds a tensor, seen from within a dispatch mode."""
    return tensor._use_count(), torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


def is_accumulating() -> bool:
    """Whether an addition is the engine's own: the nodes of the models traced here make none themselves."""
    return not torch.is_grad_enabled() and torch._C._current_autograd_node() is not None


def can_add_in_place(held: Any, alone: Counts) -> bool:
    """``can_accumulate_inplace``: nobody else holds the gradient, and it fills its memory."""
    return counts(held) == alone and is_dense(tuple(held.shape), held.stride())


def sum_of_two() -> None:
    """Backward through ``x.exp() + x.sin()``: ``x`` gets two gradients that nobody else holds.

    The first addition a recorder sees tells it what the counts of such a gradient are.
    """
    x = torch.empty(2, requires_grad=True) * 1
    torch.autograd.backward((x.exp() + x.sin()).sum())
