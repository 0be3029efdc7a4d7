"""What the flat parameters of FSDP1 have in common: CUDA streams, and the order of their modules.

Source: ``_init_streams`` in torch/distributed/fsdp/_runtime_utils.py and its _exec_order_utils.py (2.13).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from memplan.domain.dtype import Dtype
from memplan.domain.workload import World
from memplan.simulator.tensor import Storage, Tape

if TYPE_CHECKING:
    from memplan.simulator.sharding.fsdp1_flat import Flat

UNSHARD_STREAM, POST_BACKWARD_STREAM, PRE_UNSHARD_STREAM = 1, 2, 3
"""CUDA streams for what is gathered, for gradients being reduced, and for casts before gathering.

The stream that computes is 0.
"""


class Named(Protocol):
    """What has a dotted name."""

    name: str


def named(parameters: Sequence[Named]) -> str:
    """A flat parameter's name: PyTorch's own, behind the path that its parameters have in common."""
    paths = [parameter.name.split(".") for parameter in parameters]
    common = [level[0] for level in takewhile(lambda level: len(set(level)) == 1, zip(*paths, strict=False))]
    return ".".join([*common, "_flat_param"])


class Shared:
    """What the flat parameters of a model have in common.

    ``order`` is the order in which their modules ran in this pass, ``first`` that in which they began in the
    first one; ``reduces`` says that this backward pass reduces gradients.
    """

    __slots__ = ("first", "order", "reduces", "tape", "world")

    def __init__(self, tape: Tape, world: World) -> None:
        self.tape = tape
        self.world = world
        self.first: list[Flat] = []
        self.order: list[Flat] = []
        self.reduces = True

    def allocate(self, name: str, count: int, dtype: Dtype, component: str, stream: int = 0) -> Storage:
        """A flat buffer of ``count`` elements on a CUDA stream."""
        trace = self.tape.trace
        found = Storage(trace, count * dtype.itemsize, (component, "fsdp1", name, (count,), dtype))
        if stream:
            trace.streams[found.block] = stream
        return found
