"""What an optimizer keeps: tensors made once, at the first step that needs them."""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.simulator.layout import Shape
from memplan.simulator.tensor import Storage, Tape


class States:
    """The states of one optimizer, by parameter and name.

    ``dtype`` is what states take that follow the parameter's element type unless told otherwise.
    ``paged`` counts bytes in unified memory, which PyTorch's allocator does not see.
    """

    __slots__ = ("_held", "dtype", "paged", "tape")

    def __init__(self, tape: Tape, dtype: Dtype | None) -> None:
        self.tape = tape
        self.dtype = dtype
        self.paged = 0
        self._held: dict[tuple[int, str], Storage | None] = {}

    def keep(self, key: int, scope: str, name: str, shape: Shape, dtype: Dtype) -> None:
        """Make a state unless it is there; ``key`` tells parameters of one name apart."""
        if (key, name) not in self._held:
            tag = ("optimizer_state", scope, name, shape, dtype)
            size = prod(shape) * dtype.itemsize
            self._held[key, name] = Storage(self.tape.trace, size, tag, once=True)

    def page(self, key: int, name: str, size: int) -> None:
        """Make a state in unified memory unless it is there."""
        if (key, name) not in self._held:
            self._held[key, name] = None
            self.paged += size
