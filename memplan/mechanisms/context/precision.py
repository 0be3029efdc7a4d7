"""Training in half precision with fp32 masters of the weights.

What it takes per parameter: 2 bytes for the weight that computes and 2 for its gradient, 4 for the master and
4 for the gradient in fp32 while a step is made, besides the optimizer's states, which are fp32. Weights
alone take 6 bytes instead of 4: it is activations that half precision halves, not the weights of a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from memplan.domain.errors import FieldError, InputError
from memplan.mechanisms.context.scaling import LossScaler, is_finite

HALVES = (torch.float16, torch.bfloat16)
"""What the weights that compute may be of."""


class MixedPrecision:
    """A model in half precision, masters of its weights in fp32, and an optimizer that moves these.

    Args:
        model: its floating-point parameters become half precision in place, the masters keep what they were.
        optimizer: makes the optimizer of the masters, as in ``lambda masters: AdamW(masters, lr=1e-3)``.
        dtype: of the weights that compute.
        scaler: scales the loss; by default fp16 has one and bf16, whose range is fp32's, has none.

    Raises:
        FieldError: ``dtype`` is no half precision.
        InputError: nothing in the model is trained.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[list[Tensor]], Optimizer],
        *,
        dtype: torch.dtype = torch.float16,
        scaler: LossScaler | None = None,
    ) -> None:
        if dtype not in HALVES:
            raise FieldError(f"mixed precision with {dtype}", expected=" or ".join(map(str, HALVES)))
        self.model = model
        self.working = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.working:
            raise InputError("no parameter of the model is trained", expected="requires_grad=True")
        self.masters = [
            weight.detach().to(torch.float32, copy=True).requires_grad_() for weight in self.working
        ]
        model.to(dtype)
        self.scaler = LossScaler() if scaler is None and dtype is torch.float16 else scaler
        self.optimizer = optimizer(self.masters)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the scaled loss, added to those that are there."""
        (loss.float() if self.scaler is None else self.scaler.scaled(loss)).backward()

    def step(self, *, clip: float | None = None) -> bool:
        """One step of the optimizer, or none if gradients overflowed; whether it was made.

        Gradients are gone afterwards in either case.

        Args:
            clip: largest norm of all gradients together, after division by the scale.

        Raises:
            FieldError: ``clip`` is not positive.
            InputError: there are no gradients.
            RunError: gradients overflow at the smallest scale.
        """
        if clip is not None and not clip > 0.0:
            raise FieldError(f"gradients clipped to {clip!r}", expected="a positive number")
        gradients = self._gradients()
        if not gradients:
            raise InputError("a step without gradients", expected="a backward pass before it")
        finite = all(map(is_finite, gradients)) if self.scaler is None else self.scaler.unscale(gradients)
        if finite:
            if clip is not None:
                nn.utils.clip_grad_norm_(self.masters, clip)
            self.optimizer.step()
            self._publish()
        del gradients
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler is not None:
            self.scaler.update(finite=finite)
        return finite

    def state_dict(self) -> dict[str, Any]:
        """Masters, the optimizer's state and the scaler's: with these a training goes on exactly."""
        return {
            "masters": [master.detach().clone() for master in self.masters],
            "optimizer": deepcopy(self.optimizer.state_dict()),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state; the weights that compute follow their masters.

        Raises:
            InputError: it is of another model, or one of the two scales its loss and the other does not.
        """
        shapes = [tuple(master.shape) for master in state["masters"]]
        wanted = [tuple(master.shape) for master in self.masters]
        if shapes != wanted:
            raise InputError(
                f"masters of shapes {shapes[:3]} … for a model of {wanted[:3]} …", expected="the same model"
            )
        if (state["scaler"] is None) != (self.scaler is None):
            raise InputError("a state with and a training without loss scaling, or the other way round")
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        with torch.no_grad():
            for master, saved in zip(self.masters, state["masters"], strict=True):
                master.copy_(saved)
        self.optimizer.load_state_dict(deepcopy(state["optimizer"]))
        self._publish()

    def _gradients(self) -> list[Tensor]:
        """Gradients in fp32, at the masters; those in half precision go as they are copied."""
        for weight, master in zip(self.working, self.masters, strict=True):
            master.grad = None if weight.grad is None else weight.grad.to(torch.float32)
            weight.grad = None
        return [master.grad for master in self.masters if master.grad is not None]

    def _publish(self) -> None:
        """Round the masters into the weights that compute."""
        with torch.no_grad():
            for weight, master in zip(self.working, self.masters, strict=True):
                weight.copy_(master)
