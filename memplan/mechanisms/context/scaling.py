"""Dynamic loss scaling: small gradients survive half precision, large ones are noticed.

fp16 loses what is below 6e-8 and turns what is above 65,504 into infinity. The loss is multiplied by a scale
before backward, and gradients are divided by it after. Where they are not finite the step is skipped and the
scale falls; after so many steps without that it grows. The rule is that of ``torch.amp.GradScaler``
(``_amp_update_scale_``), whose state this one reads and writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from memplan.domain.errors import FieldError, RunError

LEAST = 2.0**-24
"""The smallest scale: fp16's smallest number. What overflows even then is no matter of scaling."""

_KEYS = {
    "scale": "scale",
    "growth_factor": "growth",
    "backoff_factor": "backoff",
    "growth_interval": "interval",
    "_growth_tracker": "good_steps",
}


class LossScaler:
    """A scale for the loss, and the rule by which it changes.

    Args:
        scale: to begin with.
        growth: what it is multiplied by after ``interval`` good steps in a row, above 1.
        backoff: what it is multiplied by after a step that overflowed, between 0 and 1.
        interval: good steps in a row before it grows.

    Attributes:
        good_steps: since the scale last changed.
        skipped: steps that overflowed.

    Raises:
        FieldError: a number is not finite or outside its range.
    """

    def __init__(
        self, *, scale: float = 2.0**16, growth: float = 2.0, backoff: float = 0.5, interval: int = 2000
    ) -> None:
        _check(scale, growth, backoff, interval)
        self.scale = scale
        self.growth = growth
        self.backoff = backoff
        self.interval = interval
        self.good_steps = 0
        self.skipped = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times the scale, in fp32: in fp16 a loss of 1 would be infinite at the first scale."""
        return loss.float() * self.scale

    def unscale(self, gradients: Iterable[Tensor]) -> bool:
        """Divide gradients by the scale, in place; whether all of them are finite.

        They must be of fp32: divided in half precision, those that scaling saved would be lost after all.

        Raises:
            FieldError: one is of another dtype.
        """
        finite = True
        for gradient in gradients:
            if gradient.dtype is not torch.float32:
                raise FieldError(
                    f"a gradient of {gradient.dtype} to divide by the scale",
                    expected="torch.float32",
                    hint="MixedPrecision keeps fp32 copies of weights and gradients",
                )
            finite = finite and is_finite(gradient)
            gradient.mul_(1.0 / self.scale)
        return finite

    def update(self, *, finite: bool) -> None:
        """Change the scale after a step, or after one that was skipped because gradients were not finite.

        Raises:
            RunError: gradients overflow at the smallest scale.
        """
        if not finite:
            self.skipped += 1
            self.good_steps = 0
            self.scale = _fp32(self.scale * self.backoff)
            if self.scale < LEAST:
                raise RunError(
                    f"gradients are not finite at a loss scale of {self.scale:g}",
                    hint="the loss itself, or a weight, is likely not finite",
                )
            return
        self.good_steps += 1
        if self.good_steps == self.interval:
            self.good_steps = 0
            grown = _fp32(self.scale * self.growth)
            # Beyond fp32 it stays as it is.
            self.scale = grown if isfinite(grown) else self.scale

    def state_dict(self) -> dict[str, float | int]:
        """The state, with the keys of ``torch.amp.GradScaler``."""
        return {key: getattr(self, name) for key, name in _KEYS.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state of this class or of ``torch.amp.GradScaler``.

        Raises:
            FieldError: a key is missing, or a number is outside its range; nothing is changed then.
        """
        missing = [key for key in _KEYS if key not in state]
        if missing:
            raise FieldError(
                f"a state of loss scaling without {', '.join(missing)}", expected=", ".join(_KEYS)
            )
        _check(state["scale"], state["growth_factor"], state["backoff_factor"], state["growth_interval"])
        good = state["_growth_tracker"]
        if isinstance(good, bool) or not isinstance(good, int) or good < 0:
            raise FieldError(f"loss scaling: {good!r} good steps", expected="a whole number from 0 up")
        for key, name in _KEYS.items():
            setattr(self, name, state[key])


def is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are, by the smallest and the largest: nothing of the tensor's size is made."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)
    return isfinite(float(low)) and isfinite(float(high))


def _fp32(number: float) -> float:
    return float(torch.tensor(number, dtype=torch.float32))


def _check(scale: float, growth: float, backoff: float, interval: int) -> None:
    for name, number, fine, expected in (
        ("scale", scale, LEAST <= scale < float("inf"), f"a finite number from {LEAST:g} up"),
        ("growth", growth, 1.0 < growth < float("inf"), "a finite number above 1"),
        ("backoff", backoff, 0.0 < backoff < 1.0, "a number between 0 and 1"),
    ):
        if not fine:
            raise FieldError(f"loss scaling: {name} is {number!r}", expected=expected)
    if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
        raise FieldError(
            f"loss scaling: interval is {interval!r}", expected="a whole number of steps from 1 up"
        )
