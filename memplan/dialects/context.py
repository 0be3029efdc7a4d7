"""Sequences that are longer than what a model has positions for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memplan.dialects.reading import Reading
from memplan.documents.tree import MappingNode, Node, ScalarNode
from memplan.domain.architecture import Architecture
from memplan.domain.errors import Location
from memplan.domain.finding import Finding, Level
from memplan.domain.workload import Task

CODE = "MP008"
_LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
_LEARNED = ("gpt2", "gpt_bigcode", "opt", "bert", "roberta", "distilbert", "gpt_neo")
"""Model types that look positions up in a table; others compute them."""

_STRETCHED = ("linear", "dynamic", "yarn", "longrope", "su")
"""Kinds of rope scaling whose ``max_position_embeddings`` is what the model had before."""


def beyond(reading: Reading) -> tuple[Finding, ...]:
    """A finding where a training run's sequences are longer than its model's context.

    A config that sets rope scaling itself is taken to know what it does.
    """
    run, model = reading.workload, reading.workload.model
    if run.task is not Task.TRAIN or not isinstance(model, Architecture):
        return ()
    limit = _positions(model)
    if limit is None or run.sequence.length <= limit or _scales(reading.document.root):
        return ()
    length, named = reading.origins.get("sequence.length"), reading.origins.get("model")
    place = (length.location if length is not None else None) or Location(
        path=reading.document.source.path, line=1
    )
    where = named.location if named is not None else None
    at = f", named at {where.path}:{where.line}," if where is not None else ""
    fails = model.model_type in _LEARNED
    outcome = "looking one up beyond fails" if fails else "the run's length counts, untrained beyond that"
    return (
        Finding(
            path=place.path,
            line=place.line,
            code=CODE,
            level=Level.ERROR if fails else Level.WARNING,
            message=f"sequences are {run.sequence.length} tokens here but the model{at} has {limit} "
            f"positions; {outcome}",
            fix="shorten the sequences, or set rope scaling" if not fails else "shorten the sequences",
        ),
    )


def _positions(model: Architecture) -> int | None:
    """The positions a model's config speaks of, stretched by its rope scaling."""
    limit = next((model.config[key] for key in _LIMITS if key in model.config), None)
    if not isinstance(limit, int):
        return None
    scaling: Any = model.config.get("rope_scaling") or model.config.get("rope_parameters")
    if not isinstance(scaling, Mapping):
        return limit
    kind = scaling.get("rope_type", scaling.get("type"))
    factor = scaling.get("factor", 1.0)
    original = scaling.get("original_max_position_embeddings", limit)
    if kind in _STRETCHED and isinstance(factor, int | float) and isinstance(original, int):
        return max(limit, int(original * factor))
    return limit


def _scales(node: Node) -> bool:
    """Whether a key of a config is about rope scaling."""
    if isinstance(node, ScalarNode):
        return False
    if not isinstance(node, MappingNode):
        return any(map(_scales, node.items))
    return any(
        (isinstance(item.key.value, str) and "rope" in item.key.value) or _scales(item.value)
        for item in node.items
    )
