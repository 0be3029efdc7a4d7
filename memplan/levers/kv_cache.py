"""Keys and values in 4 bits, but for the newest tokens: other answers, if only slightly."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "kv_cache"
SUMMARY = "generate with a key/value cache of 4 bits a number"
HARM = Harm.NUMERIC

PACKAGE = "optimum-quanto"
_GROUP = 64
"""Numbers of a token that share a scale: those of all its heads must come out even."""

_WHOLE = 127
"""So many of the newest tokens may wait in full."""


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """In place of a cache that grows, in models whose layers all keep every token.

    transformers' quantized cache knows no windows, and its release must be one that has the backend (4.42).
    """
    model = workload.model
    if not isinstance(model, Architecture) or workload.task is not Task.GENERATE:
        return ()
    plain = model.sliding_window is None and model.latent is None
    even = model.num_key_value_heads * model.head_dim % _GROUP == 0
    ours = workload.framework.code == "transformers" and not workload.framework.transformers_before(4, 42)
    if workload.generate.cache != "dynamic" or not (plain and even and ours and _saves(workload, model)):
        return ()
    return (
        Option(
            changes={"generate.cache": "quantized"},
            harm=HARM,
            reason="keys and values take 4 bits a number, but for the newest 128 tokens",
            degree=1,
            requires=(PACKAGE,),
        ),
    )


def _saves(workload: Workload, model: Architecture) -> bool:
    """Whether what all layers save is more than a step has in full of one: both, dequantized and joined.

    Of 16 bits a number 4 are left, and 32 for each group's scale and shift.
    """
    asked = workload.generate
    tokens = asked.prompt + asked.new_tokens
    quantized = tokens - min(asked.new_tokens, _WHOLE)
    saved = 1 - (4 + 32 / _GROUP) / 16
    return model.num_hidden_layers * quantized * saved > 2 * tokens
