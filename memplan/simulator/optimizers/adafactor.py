"""Adafactor as transformers has it: of a matrix it keeps row and column means of the squared gradient only.

Source: ``Adafactor.step`` in transformers src/transformers/optimization.py, which the Trainer takes for
``optim="adafactor"`` (without a first moment). Half gradients and parameters are copied to fp32.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Optimizer
from memplan.simulator.autograd import Leaf, each
from memplan.simulator.layout import Shape
from memplan.simulator.optimizers.states import States
from memplan.simulator.tensor import Tape, Tensor


def update(_: Optimizer, states: States, leaves: list[Leaf]) -> None:
    """One parameter after the other; the loop's variables hold what they hold until they are set again."""
    tape = states.tape
    gradient: Tensor | None = None
    values: Tensor | None = None
    change: Tensor | None = None
    for leaf in each(leaves):
        gradient = leaf.grad
        assert gradient is not None
        if gradient.dtype.is_half:
            gradient = tape.empty(leaf.shape, Dtype.FP32, "float")
        _keep(states, leaf)
        values = None
        if leaf.dtype.is_half:
            values = tape.empty(leaf.shape, Dtype.FP32, "float")
        change = _squared(tape, leaf.shape)
        if len(leaf.shape) > 1:
            change = _approximated(tape, leaf.shape)
        else:
            change = tape.empty(leaf.shape, Dtype.FP32, "rsqrt")
        tape.empty(leaf.shape, Dtype.FP32, "neg")
    del gradient, values, change


def _keep(states: States, leaf: Leaf) -> None:
    *rows, columns = leaf.shape
    if rows:
        states.keep(id(leaf), leaf.scope, "exp_avg_sq_row", tuple(rows), Dtype.FP32)
        states.keep(id(leaf), leaf.scope, "exp_avg_sq_col", (*rows[:-1], columns), Dtype.FP32)
    else:
        states.keep(id(leaf), leaf.scope, "exp_avg_sq", leaf.shape, Dtype.FP32)
    states.keep(id(leaf), leaf.scope, "RMS", (), Dtype.FP32)


def _squared(tape: Tape, shape: Shape) -> Tensor:
    """``(grad**2) + eps``."""
    _power = tape.empty(shape, Dtype.FP32, "pow")
    return tape.empty(shape, Dtype.FP32, "add")


def _approximated(tape: Tape, shape: Shape) -> Tensor:
    """``_approx_sq_grad``: the product of a column and a row, after their means were updated."""
    rows, columns = shape[:-1], (*shape[:-2], shape[-1])
    tape.empty(rows, Dtype.FP32, "mean")
    tape.empty(columns, Dtype.FP32, "mean")
    mean = tape.empty((*shape[:-2], 1), Dtype.FP32, "mean")
    _row = tape.empty(rows, Dtype.FP32, "div")
    del mean
    _column = tape.empty(columns, Dtype.FP32, "rsqrt")
    return tape.empty(shape, Dtype.FP32, "mul")
