"""Low-rank adapters of parameters that hold the matrices of all experts (PEFT's ``target_parameters``).

Each pass adds the update to a copy of the parameter, which is as large as the experts of a layer, and so is
its gradient. Source: ``ParamWrapper`` and ``_LoraFactorsProxy`` in peft src/peft/tuners/lora/layer.py (0.21);
releases that make the update of all experts first need as much once more.

Shapes: E experts, r rank, parameters (E, out, in), or (E, in, out) if they are transposed.
"""

from __future__ import annotations

from collections.abc import Sequence

from memplan.simulator import ops, shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.blocks import Store
from memplan.simulator.ops import finish
from memplan.simulator.tensor import Parameter, Tensor

KERNEL_COPY = "batch_matrix"
"""The op that copies a factor for cuBLAS."""


class AdaptedParameter:
    """One parameter and its adapter: lora_A is (r·E, in), lora_B is (out, r·E).

    While the layer runs it has factors, and from its first use on the folded copy, which stays until the
    outermost wrapper is done (``parametrize.cached``).
    """

    __slots__ = ("base", "down", "factors", "folded", "transposed", "up")

    def __init__(self, base: Parameter, rank: int, adapters: Store, *, transposed: bool) -> None:
        count, *sides = base.shape
        outputs, inputs = reversed(sides) if transposed else sides
        self.base = base
        self.transposed = transposed
        trace = adapters.tape.trace
        outside, trace.layer = trace.layer, trace.layers[base.storage.block]
        self.down = adapters.parameter(f"{base.name}.lora_A.weight", (rank * count, inputs), "adapter")
        self.up = adapters.parameter(f"{base.name}.lora_B.weight", (outputs, rank * count), "adapter")
        trace.layer = outside
        self.factors: tuple[Tensor, Tensor] | None = None
        self.folded: Tensor | None = None

    def open(self) -> None:
        """Make the factors; registering the parametrization folds them once, to check the shape."""
        self.factors = self._factors()
        self._fold()

    def value(self) -> Tensor:
        """The parameter with its update, made at the first use."""
        if self.folded is None:
            self.folded = self._fold()
        return self.folded

    def _factors(self) -> tuple[Tensor, Tensor]:
        """``get_delta_factors``, the second one first: it goes last.

        They are (E, out, r) and (E, r, in), or (E, in, r) and (E, r, out).
        """
        count, dtype = self.base.shape[0], self.base.dtype
        rank = self.down.shape[0] // count
        down = shapes.view(self.down, (count, rank, self.down.shape[1]))
        up = shapes.permute(shapes.view(self.up, (self.up.shape[0], rank, count)), (2, 0, 1))
        left, right = (
            (shapes.transpose(down, 1, 2), shapes.transpose(up, 1, 2)) if self.transposed else (up, down)
        )
        left, right = ops.to(left, dtype), ops.to(right, dtype)
        return right, left

    def _fold(self) -> Tensor:
        assert self.factors is not None
        tape = self.base.tape
        scope, tape.scope = tape.scope, self.base.name
        right, left = self.factors
        folded = baddbmm(self.base, left, right)
        tape.scope = scope
        return folded


class AdaptedParameters:
    """What runs a layer within the wrappers of its parameters, the outermost first."""

    __slots__ = ("wrapped",)

    def __init__(self, wrapped: Sequence[AdaptedParameter]) -> None:
        self.wrapped = tuple(wrapped)

    def open(self) -> None:
        """Enter all wrappers."""
        for parameter in self.wrapped:
            parameter.open()

    def close(self) -> None:
        """Leave them: the innermost factors go first, then all copies, then the others' factors."""
        *outer, innermost = self.wrapped
        if outer:
            innermost.factors = None
        for parameter in reversed(self.wrapped):
            parameter.folded = None
        for parameter in reversed(self.wrapped):
            parameter.factors = None


def _copy_for_kernel(x: Tensor) -> Tensor | None:
    """A row-major copy of matrices of which neither axis is dense, else nothing.

    ``prepare_batch_matrix_for_cublas`` in aten/src/ATen/native/cuda/Blas.cpp.
    """
    return None if 1 in x.strides[1:] else x.tape.empty(x.shape, x.dtype, KERNEL_COPY)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``maybe_multiply(left.bmm(right), alpha)``: a scale that is not 1 makes a second tensor."""
    product = left.tape.empty((*left.shape[:2], right.shape[2]), left.dtype, "bmm")
    _copies = _copy_for_kernel(left), _copy_for_kernel(right)
    del _copies
    return ops.like(product, "mul")


def _baddbmm(node: Node, gradient: Tensor) -> Gradients:
    right, left = node.unpack()
    assert left is not None
    assert right is not None
    gradient.tape.take_workspace()
    of_left = _product(gradient, _turned(right))
    return None, of_left, _product(_turned(left), gradient)


def _turned(x: Tensor) -> Tensor:
    shape, strides = x.shape, x.strides
    return x.alias((shape[0], shape[2], shape[1]), (strides[0], strides[2], strides[1]))


def baddbmm(base: Parameter, left: Tensor, right: Tensor) -> Tensor:
    """``torch.baddbmm(base, left, right, alpha=…)`` with a frozen ``base``: saves both factors.

    A structured op: its result is there before the copies the kernel wants. Autocast is off meanwhile.
    """
    node = begin(_baddbmm, base, left, right)
    if node is not None:
        # Saved tensors go in the order of their names, batch1 first; a tuple lets go of its last item first.
        node.save(base.tape, right, left)
    base.tape.take_workspace()
    result = finish(node, base.tape.empty(base.shape, base.dtype, "baddbmm"))
    _copies = _copy_for_kernel(left), _copy_for_kernel(right)
    return result
