"""bitsandbytes on a CPU as it is simulated: what quantizing, int8 products and updates take on the way."""

from __future__ import annotations

from itertools import accumulate

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Trace
from memplan.domain.workload import Optimizer, Quantization
from memplan.simulator.autograd import Leaf
from memplan.simulator.kernels import HOST
from memplan.simulator.optimizer import Stepper
from memplan.simulator.quantization import Matrix, linear
from memplan.simulator.tensor import Parameter, Tape

SHAPE = (128, 512)
NUMBERS = 128 * 512
SCALES = NUMBERS // 64
GPU = (8, 0)


def peak(trace: Trace) -> int:
    sizes = (trace.sizes[event] if event >= 0 else -trace.sizes[~event] for event in trace.events)
    return max(accumulate(sizes))


def quantized(
    kind: str, dtype: Dtype = Dtype.BF16, capability: tuple[int, int] = HOST
) -> tuple[Tape, Matrix]:
    tape = Tape(capability)
    return tape, Matrix(tape, "w", SHAPE, dtype, Quantization(kind=kind))


@pytest.mark.parametrize(
    ("kind", "dtype", "numbers", "beside"),
    [
        ("nf4", Dtype.BF16, 2 + 14, 4 * SCALES),
        ("nf4", Dtype.FP32, 4 + 10, 4 * SCALES),
        ("fp4", Dtype.BF16, 2 + 28, 4 * SCALES),
        ("int8", Dtype.BF16, 2 + 10, 2 * 4 * 128),
        ("int8", Dtype.FP16, 2 + 8, 2 * 4 * 128),
    ],
)
def test_quantizing_takes_so_many_bytes_a_number(kind: str, dtype: Dtype, numbers: int, beside: int) -> None:
    tape, _ = quantized(kind, dtype)
    assert peak(tape.trace) == numbers * NUMBERS + beside


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_what_stays_is_what_stays_on_a_gpu(kind: str) -> None:
    here, there = (
        sorted((tensor.shape, tensor.dtype) for tensor in quantized(kind, capability=capability)[1].held)
        for capability in (HOST, GPU)
    )
    assert here == there


def test_an_int8_product_makes_the_weight_whole_and_keeps_the_input_alone() -> None:
    tape, weight = quantized("int8", Dtype.FP32)
    before = len(tape.trace.events)
    x = tape.empty((4, 512), Dtype.FP32, "x")
    result = linear(x, weight, None)
    made = [tape.trace.tags[event][2] for event in tape.trace.events[before:] if event >= 0]
    assert made == ["x", "to", "mul", "linear"]
    assert result.shape == (4, 128)


@pytest.mark.parametrize(
    ("name", "dtype", "tensors"),
    [
        # Both states, the gradient, the root of the second one and the divisor; half parameters too.
        ("adamw_8bit", Dtype.FP32, 5),
        ("adamw_8bit", Dtype.BF16, 6),
        # The gradient, the divisor and the quotient.
        ("paged_adamw_32bit", Dtype.FP32, 3),
        # The state, the gradient, two products and their sum.
        ("lion_8bit", Dtype.FP32, 5),
        # The gradient, a product and the sum.
        ("lion", Dtype.FP32, 3),
    ],
)
def test_an_update_takes_so_many_fp32_tensors_of_the_parameters_size(
    name: str, dtype: Dtype, tensors: int
) -> None:
    tape = Tape(HOST)
    parameter = Parameter(tape, SHAPE, dtype, "blocks", "w")
    leaf = Leaf(parameter, "w")
    leaf.grad = tape.empty(SHAPE, dtype, "grad")
    stepper = Stepper(tape, Optimizer(name=name), [leaf])
    stepper.step()
    trace = tape.trace
    kept = sum(size for size, tag in zip(trace.sizes, trace.tags, strict=True) if tag[0] == "optimizer_state")
    assert peak(trace) == 2 * NUMBERS * dtype.itemsize + kept + tensors * 4 * NUMBERS
    assert stepper.states.paged == 0


def test_a_gpu_takes_nothing_for_an_update() -> None:
    tape = Tape(GPU)
    leaf = Leaf(Parameter(tape, SHAPE, Dtype.FP32, "blocks", "w"), "w")
    leaf.grad = tape.empty(SHAPE, Dtype.FP32, "grad")
    Stepper(tape, Optimizer(name="adamw_8bit"), [leaf]).step()
    assert not any(tag[0] == "temporaries" for tag in tape.trace.tags)
