"""A model too deep for this machine, run at two smaller depths: what a layer adds is what they differ by.

The depths are the smallest for which the simulator, scaled up the same way, says of every phase what it says
of the whole model: only then is every layer like those that were run, and the highest point where it will be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, InputError
from memplan.domain.measurement import Measurement
from memplan.domain.workload import Workload
from memplan.families import architecture

DEPTH_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers", "n_layers")
"""How families call the number of their layers."""

LISTS = ("layer_types", "no_rope_layers", "mlp_layer_types")
"""Settings that name every layer."""

DEEPEST = 12

Predict = Callable[[Workload], Measurement]
Name = TypeVar("Name", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Depths:
    """Two depths to run at, and that of the model they stand for."""

    fewer: int
    more: int
    whole: int


def shallower(workload: Workload, layers: int) -> Workload:
    """The workload with a model of fewer layers, each as it was.

    Raises:
        FieldError: the family does not let its depth be changed, or not to this one.
    """
    assert isinstance(workload.model, Architecture)
    config = _cut(workload.model.config, layers)
    return replace(workload, model=architecture(config, lambda _: None))


def _cut(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    found = dict(config)
    for key in DEPTH_KEYS:
        if isinstance(found.get(key), int):
            found[key] = layers
    for key in LISTS:
        if isinstance(found.get(key), list | tuple):
            found[key] = list(found[key])[:layers]
    if isinstance(found.get("text_config"), Mapping):
        found["text_config"] = _cut(found["text_config"], layers)
    return found


def depths(workload: Workload, predict: Predict) -> Depths:
    """The smallest two depths that say all of the whole model.

    Raises:
        InputError: there are none: layers differ in a way that does not repeat.
    """
    assert isinstance(workload.model, Architecture)
    whole = workload.model.num_hidden_layers
    expected = predict(workload)
    known: dict[int, Measurement | None] = {}
    for found in _candidates(whole):
        pair = [_at(workload, layers, predict, known) for layers in (found.fewer, found.more)]
        if pair[0] is None or pair[1] is None:
            continue
        if extrapolated(pair[0], pair[1], found).phases == expected.phases:
            return found
    raise InputError(
        "this model cannot be scaled down: a few of its layers do not show what all of them take",
        hint="run it whole, or on tensors without bytes: --device fake",
    )


def _candidates(whole: int) -> Iterator[Depths]:
    for more in range(2, min(whole, DEEPEST + 1)):
        for step in range(1, more):
            if (whole - more) % step == 0:
                yield Depths(fewer=more - step, more=more, whole=whole)


def _at(
    workload: Workload, layers: int, predict: Predict, known: dict[int, Measurement | None]
) -> Measurement | None:
    if layers not in known:
        try:
            known[layers] = predict(shallower(workload, layers))
        except FieldError:
            known[layers] = None
    return known[layers]


def extrapolated(first: Measurement, second: Measurement, found: Depths) -> Measurement:
    """What two depths say of the whole model.

    Of resident sets two runs say too little: they grow from the second by what is allocated.
    """

    def grown(before: int, after: int) -> Bytes:
        return Bytes(after + (after - before) * (found.whole - found.more) // (found.more - found.fewer))

    def each(
        before: tuple[tuple[Name, Bytes], ...], after: tuple[tuple[Name, Bytes], ...]
    ) -> tuple[tuple[Name, Bytes], ...]:
        known = dict(before)
        return tuple((name, grown(known.get(name, size), size)) for name, size in after)

    phases = each(first.phases, second.phases)
    more = {name: size - dict(second.phases)[name] for name, size in phases}
    resident = tuple((name, Bytes(size + more.get(name, 0))) for name, size in second.resident)
    return Measurement(
        peak_allocated=max((size for _, size in phases), default=Bytes(0)),
        peak_reserved=None,
        phases=phases,
        components=each(first.components, second.components),
        rss=max((size for _, size in resident), default=None),
        resident=resident,
    )
