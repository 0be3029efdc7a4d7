"""Losses in place of a model's own, as frameworks put them there."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from memplan.domain.workload import Loss

IGNORED = -100
"""The label of a position that has none."""


def exchange(model: Any, wanted: Loss) -> None:
    """Give a causal model the loss that is wanted: the one it has, or one in pieces.

    Source of the latter: ``get_causal_lm_loss`` in axolotl src/axolotl/monkeypatch/loss/chunked.py, which
    torchtune's ``CEWithChunkedOutputLoss`` was taken over from.
    """
    if wanted.kind == "chunked":
        model.loss_function = _Chunked(wanted.chunks)


class _Chunked:
    """Cross-entropy of logits (B, S, V), cut along the sequence; one piece at a time is made fp32."""

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks

    def __call__(self, logits: Any, labels: Any, *_: Any, **__: Any) -> Any:
        """The mean over the positions that have a label: each foretells the next one."""
        shifted = functional.pad(labels, (0, 1), value=IGNORED)[..., 1:].contiguous()
        counted = (shifted != IGNORED).sum()
        total: Any = 0.0
        for piece, target in zip(
            [piece.reshape(-1, piece.size(-1)) for piece in logits.chunk(self.chunks, dim=1)],
            [piece.reshape(-1) for piece in shifted.chunk(self.chunks, dim=1)],
            strict=True,
        ):
            total = total + _sum(piece, target)
        return total / counted


def _sum(logits: Any, labels: Any) -> Any:
    return functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
