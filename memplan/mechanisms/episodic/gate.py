"""A memory beside a residual stream, let in by a gate, and only where it does no harm."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from memplan.domain.errors import FieldError
from memplan.mechanisms.episodic.memory import EpisodicMemory


class GatedMemory(nn.Module):  # type: ignore[misc]
    """``x + sigmoid(gate(x)) · memory(x)`` in inference, and ``x`` in training.

    In training the memory is neither read nor written: an update in place would change tensors that backward
    still needs. With the memory's ``gradient_safe`` it takes part in training too, and gradients reach both
    the gate and what was written; call ``memory.detach()`` after each step. The gate gets no gradient in
    training otherwise, and ``DistributedDataParallel`` copies all buffers of a module before every forward
    pass, a bank too: give it ``find_unused_parameters`` and no ``broadcast_buffers``.

    Raises:
        FieldError: keys and values of the memory are not equally wide.
    """

    def __init__(self, memory: EpisodicMemory) -> None:
        super().__init__()
        width = memory.settings.key_size
        if memory.settings.width != width:
            raise FieldError(
                f"values are {memory.settings.width} wide and keys {width}",
                expected="both as wide as the residual stream",
            )
        self.memory = memory
        bank = memory.bank.keys
        self.gate = nn.Linear(width, 1, dtype=bank.dtype, device=bank.device)

    @property
    def active(self) -> bool:
        """Whether the memory takes part."""
        return not self.training or self.memory.settings.gradient_safe

    def forward(self, x: Tensor, *, remember: bool = False) -> Tensor:
        """``x`` (…, K) with what it recalls; ``remember`` writes it after reading, as its own key.

        Without ``gradient_safe`` neither goes through autograd: the memory sees ``x`` detached.

        Raises:
            InputError: the width of ``x`` is not the memory's, or a number is not finite.
        """
        if not self.active:
            return x
        safe = self.memory.settings.gradient_safe
        seen = x if safe else x.detach()
        with torch.set_grad_enabled(safe and torch.is_grad_enabled()):
            recalled = self.memory.read(seen).values.to(x.dtype)
            if remember:
                self.memory.write(seen, seen)
        return x + torch.sigmoid(self.gate(x)) * recalled
