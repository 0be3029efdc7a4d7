"""Layers run one after the other, checkpointed as a placement says."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from memplan.domain.errors import InputError
from memplan.mechanisms.context.placement import Placement


class CheckpointedStack(nn.Module):  # type: ignore[misc]
    """A stack of layers whose segments are kept or recomputed in backward.

    Numbers do not change: a recomputed segment runs the same operations on the same input, with the same
    state of the random generator.

    Args:
        layers: each takes the output of the one before, ``(batch, tokens, channels)``.
        placement: which of them run again; ``intervals`` finds one.

    Raises:
        InputError: the placement is for another number of layers.
    """

    def __init__(self, layers: Iterable[nn.Module], placement: Placement) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.placement = placement
        if placement.layers != len(self.layers):
            raise InputError(
                f"a placement of {placement.layers} layers for {len(self.layers)}",
                expected=f"segments that end at {len(self.layers)}",
            )

    def forward(self, hidden: Tensor) -> Tensor:
        """The output of the last layer."""
        for segment in self.placement.segments:
            layers = self.layers[segment.start : segment.stop]
            if segment.recomputed:
                hidden = checkpoint(_run, hidden, *layers, use_reentrant=False)
            else:
                hidden = _run(hidden, *layers)
        return hidden


def _run(hidden: Tensor, *layers: nn.Module) -> Tensor:
    for layer in layers:
        hidden = layer(hidden)
    return hidden
