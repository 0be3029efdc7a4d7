"""Large context on little memory: windows, checkpoints at the right distance, half precision, caches on disk.

What each name is about is said in its module. A module is imported when one of its names is asked for, so
that those without torch (spans of windows, intervals, the table of RAM) serve plans too.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memplan.mechanisms.context.costs import layer_cost
    from memplan.mechanisms.context.decoder import Decoder
    from memplan.mechanisms.context.intervals import best_uniform, sqrt_interval
    from memplan.mechanisms.context.layer import MappedLayer
    from memplan.mechanisms.context.local import local_attention
    from memplan.mechanisms.context.mapped import MappedCache
    from memplan.mechanisms.context.merging import Merge, Merger, over_windows
    from memplan.mechanisms.context.optimum import cheapest, lowest_peak
    from memplan.mechanisms.context.placement import Layer, Placement, Segment, Stack
    from memplan.mechanisms.context.precision import MixedPrecision
    from memplan.mechanisms.context.ram import tokens_for
    from memplan.mechanisms.context.scaling import LossScaler
    from memplan.mechanisms.context.stack import CheckpointedStack
    from memplan.mechanisms.context.transformers_cache import mapped_cache
    from memplan.mechanisms.context.windows import Window, Windows

__all__ = [
    "CheckpointedStack",
    "Decoder",
    "Layer",
    "LossScaler",
    "MappedCache",
    "MappedLayer",
    "Merge",
    "Merger",
    "MixedPrecision",
    "Placement",
    "Segment",
    "Stack",
    "Window",
    "Windows",
    "best_uniform",
    "cheapest",
    "layer_cost",
    "local_attention",
    "lowest_peak",
    "mapped_cache",
    "over_windows",
    "sqrt_interval",
    "tokens_for",
]

_HOMES = {
    "CheckpointedStack": "stack",
    "Decoder": "decoder",
    "Layer": "placement",
    "LossScaler": "scaling",
    "MappedCache": "mapped",
    "MappedLayer": "layer",
    "Merge": "merging",
    "Merger": "merging",
    "MixedPrecision": "precision",
    "Placement": "placement",
    "Segment": "placement",
    "Stack": "placement",
    "Window": "windows",
    "Windows": "windows",
    "best_uniform": "intervals",
    "cheapest": "optimum",
    "layer_cost": "costs",
    "local_attention": "local",
    "lowest_peak": "optimum",
    "mapped_cache": "transformers_cache",
    "over_windows": "merging",
    "sqrt_interval": "intervals",
    "tokens_for": "ram",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
