"""Sequences that no key cuts: as long as the model has positions for."""

from __future__ import annotations

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Origin
from memplan.domain.architecture import Architecture
from memplan.domain.workload import Sequence

_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")


def whole_context(keys: Keys, shape: Architecture, key: str, found: Sequence) -> Sequence:
    """The model's context, stated as assumed with a warning that names the missing ``key``.

    ``found`` is taken where the model's config names no context.
    """
    limits = [shape.config.get(name) for name in _CONTEXT]
    context = next((limit for limit in limits if isinstance(limit, int)), found.length)
    why = f"nothing cuts sequences; the model's context of {context:,} tokens is counted"
    keys.origins["sequence.length"] = Origin(how="assumed", note=why)
    keys.warnings.append(f"{keys.root.source.path}: {key} is missing: {why}")
    return Sequence(length=context)
