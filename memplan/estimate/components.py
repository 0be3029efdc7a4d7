"""What is alive at the peak, by component and down to single tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from memplan.domain.architecture import DeclaredModel
from memplan.domain.bytes import Bytes
from memplan.domain.estimate import Basis, Component, Part
from memplan.domain.trace import Tag, Trace
from memplan.domain.workload import Workload
from memplan.estimate.capacity import label
from memplan.simulator.replay import Replay, alive

NAMES = (
    "embeddings",
    "decoder_matrix",
    "blocks",
    "adapter",
    "gradients",
    "optimizer_state",
    "kv_cache",
    "activations",
    "logits_and_loss",
    "temporaries",
    "workspace",
)
"""Components of a language model, in the order of reports."""

FLAT = "flat_parameters"
"""Parameters of all kinds in one buffer, reported where there is one."""

COMMUNICATION = "communication"
"""Buffers of collectives, reported where there are any."""

ROUNDING = "rounding"
"""What the allocator's blocks hold beyond what was asked for, so that components sum to the peak."""

_EXACT = frozenset(NAMES[:7])


def components(workload: Workload, trace: Trace, replayed: Replay) -> tuple[Component, ...]:
    """Shares of the allocated peak; they sum to it."""
    counted: Counter[Tag] = Counter()
    sizes: dict[str, int] = {}
    for block in alive(trace, replayed.peak.event):
        tag = trace.tags[block]
        counted[tag] += 1
        sizes[tag[0]] = sizes.get(tag[0], 0) + trace.sizes[block]
    model = workload.model
    declared = {tensor.name for tensor in model.tensors} if isinstance(model, DeclaredModel) else None
    shared = tuple(name for name in (FLAT, COMMUNICATION) if name in sizes)
    names = (*NAMES, *shared) if declared is None else tuple(sizes)
    found = [
        Component(
            name=name,
            bytes=Bytes(sizes.get(name, 0)),
            basis=_basis(name, declared or ()),
            parts=() if name in (declared or ()) else _parts(name, counted),
        )
        for name in names
    ]
    left = replayed.peak.allocated - sum(sizes.values())
    if left:
        found.append(Component(name=ROUNDING, bytes=Bytes(left), basis=Basis.MODELLED))
    return tuple(found)


def _basis(name: str, declared: Collection[str]) -> Basis:
    if name in declared:
        return Basis.DECLARED
    return Basis.EXACT if name in _EXACT else Basis.MODELLED


def _parts(component: str, counted: Counter[Tag]) -> tuple[Part, ...]:
    """Tensors of a component that look alike, largest share first."""
    found = [
        Part(tag=label(tag), count=count, bytes=Bytes(count * _size(tag)))
        for tag, count in counted.items()
        if tag[0] == component
    ]
    return tuple(sorted(found, key=lambda part: (-part.bytes, part.tag)))


def _size(tag: Tag) -> int:
    size = tag[4].itemsize
    for side in tag[3]:
        size *= side
    return size
