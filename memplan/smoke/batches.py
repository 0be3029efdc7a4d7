"""Batches of random data, of the kind that a model takes."""

from __future__ import annotations

from typing import Any

import torch

from memplan.domain.workload import Workload


def inputs(model: Any, workload: Workload) -> dict[str, Any]:
    """A batch of the model's kind: tokens or pixels, labels for each token or for each example.

    With a padding mask where the workload has one: the last token of every sequence is left out.
    """
    count, kind, settings = workload.batch.micro, type(model).__name__, model.config
    size = (count, workload.sequence.length)
    found = {}
    if kind.endswith("ForImageClassification"):
        found["pixel_values"] = torch.rand((count, settings.num_channels, *_sides(settings.image_size)))
    else:
        found["input_ids"] = torch.randint(_words(settings), size)
    if kind.endswith(("ForImageClassification", "ForSequenceClassification")):
        found["labels"] = torch.randint(settings.num_labels, size[:1])
    else:
        classes = settings.num_labels if kind.endswith("ForTokenClassification") else _words(settings)
        found["labels"] = torch.randint(classes, size)
    if workload.causal_mask:
        mask = torch.ones(size, dtype=torch.int64)
        mask[:, -1] = 0
        found["attention_mask"] = mask
    return found


def prompt(model: Any, workload: Workload) -> Any:
    """Token ids to generate from: none is one that stands for padding."""
    size = (workload.batch.micro, workload.generate.prompt)
    return torch.randint(min(_SPECIAL, _words(model.config) - 1), _words(model.config), size)


_SPECIAL = 5
"""Ids below are often those of padding and the like."""


def _words(settings: Any) -> int:
    return int(settings.get_text_config().vocab_size)


def _sides(found: Any) -> tuple[int, ...]:
    return (found, found) if isinstance(found, int) else tuple(found)
