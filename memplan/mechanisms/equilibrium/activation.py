"""What a state tells the layer above: an elementwise function whose derivative follows from its own value."""

from __future__ import annotations

from enum import StrEnum

from torch import Tensor


class Activation(StrEnum):
    """ρ, applied to every state but the last; inputs go into the first layer as they are."""

    TANH = "tanh"
    RELU = "relu"
    IDENTITY = "identity"

    def of(self, state: Tensor) -> Tensor:
        """ρ(state), in the state's shape: a new tensor, but for the identity."""
        if self is Activation.TANH:
            return state.tanh()
        return state.relu() if self is Activation.RELU else state

    def scale(self, gradient: Tensor, value: Tensor) -> None:
        """Multiply ``gradient`` by ρ′ in place, where ``value`` is ρ's own; ``value`` is used up.

        tanh′ = 1 - tanh²; of relu it is 1 where the value is positive, and 0 elsewhere, as autograd has it.
        """
        if self is Activation.TANH:
            gradient.addcmul_(gradient, value.mul_(value), value=-1)
        elif self is Activation.RELU:
            gradient.mul_(value.sign_())
