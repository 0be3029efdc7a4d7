"""Optimizer steps that really run, on the CPU, against simulated ones: the same allocations, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Optimizer
from memplan.simulator.autograd import Leaf
from memplan.simulator.optimizer import Stepper
from memplan.simulator.tensor import Parameter, Tape
from tests.oracle.cpu_step import recorded
from tests.oracle.libraries import library

torch = library("torch")
optimization = library("transformers.optimization")

SHAPES = ((300, 64), (64, 80), (80, 64), (1000,), (48, 48))
SMALLEST = 1024
"""Smaller tensors are left out: norms, means and scalars; vectors of ``SHAPES`` are all larger."""

DTYPES = {Dtype.FP32: torch.float32, Dtype.BF16: torch.bfloat16}
Make = Callable[[list[Any]], Any]


def _adafactor(parameters: list[Any]) -> Any:
    return optimization.Adafactor(parameters, lr=1e-3, scale_parameter=False, relative_step=False)


CASES: dict[str, tuple[Optimizer, Make]] = {
    "adamw foreach": (Optimizer(), lambda found: torch.optim.AdamW(found, foreach=True)),
    "adamw for-loop": (
        Optimizer(implementation="for_loop"),
        lambda found: torch.optim.AdamW(found, foreach=False),
    ),
    "sgd": (Optimizer(name="sgd"), lambda found: torch.optim.SGD(found, foreach=True)),
    "sgd with momentum": (
        Optimizer(name="sgd", momentum=0.9),
        lambda found: torch.optim.SGD(found, momentum=0.9, foreach=True),
    ),
    "sgd with momentum, for-loop": (
        Optimizer(name="sgd", momentum=0.9, implementation="for_loop"),
        lambda found: torch.optim.SGD(found, momentum=0.9, foreach=False),
    ),
    "adafactor": (Optimizer(name="adafactor"), _adafactor),
    "muon": (Optimizer(name="muon"), lambda found: torch.optim.Muon(found)),
}


def shapes(name: str) -> list[tuple[int, ...]]:
    """Muon takes matrices only."""
    return [shape for shape in SHAPES if name != "muon" or len(shape) == 2]


def real_steps(name: str, dtype: Dtype) -> list[list[int]]:
    """Events of the first and the second step."""
    parameters = [torch.nn.Parameter(torch.randn(shape, dtype=DTYPES[dtype])) for shape in shapes(name)]
    optimizer = CASES[name][1](parameters)
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return [recorded(optimizer.step) for _ in range(2)]


def simulated_steps(name: str, dtype: Dtype) -> list[list[int]]:
    """Events of the first and the second step."""
    tape = Tape((8, 0))
    leaves = []
    for shape in shapes(name):
        leaf = Leaf(Parameter(tape, shape, dtype, "blocks", "layers.*.w"), "layers.*.w")
        leaf.grad = tape.empty(shape, dtype, "grad")
        leaves.append(leaf)
    stepper = Stepper(tape, CASES[name][0], leaves)
    steps = []
    for _ in range(2):
        start = len(tape.trace.events)
        stepper.step()
        steps.append([_signed(tape, event) for event in tape.trace.events[start:]])
    return steps


def _signed(tape: Tape, event: int) -> int:
    size = tape.trace.sizes[max(event, ~event)]
    return size if event >= 0 else -size


def large(events: list[int]) -> list[int]:
    return [size for size in events if abs(size) >= SMALLEST]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [name for name in CASES if name != "muon"])
def test_the_simulated_events_are_those_of_a_real_optimizer(name: str, dtype: Dtype) -> None:
    for simulated, real in zip(simulated_steps(name, dtype), real_steps(name, dtype), strict=True):
        assert large(simulated) == large(real)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_muon_differs_by_casts_and_scratch_memory_of_the_cpu_alone(dtype: Dtype) -> None:
    """The CPU casts the bf16 change before adding it to fp32 parameters, and packs factors of bf16 products.

    What it has beyond the simulated events is made and freed at once.
    """
    for simulated, real in zip(simulated_steps("muon", dtype), real_steps("muon", dtype), strict=True):
        rest = iter(large(real))
        beyond = []
        for event in large(simulated):
            beyond += _until(rest, event)
        beyond += rest
        assert sum(beyond) == 0
        assert len(beyond) <= 12


def _until(events: Any, wanted: int) -> list[int]:
    passed: list[int] = []
    for event in events:
        if event == wanted:
            return passed
        passed.append(event)
    raise AssertionError(f"{wanted} never happens")
