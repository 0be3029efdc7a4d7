"""What does not run on a CPU, or not as simulated: refused by name, and never run as something else."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.workload import Attention, Task, Workload
from memplan.smoke import unbuilt

KERNELS = (Attention.EAGER, Attention.SDPA, Attention.MATH)


def refuse(workload: Workload) -> None:
    """Check that a workload can be run.

    Raises:
        InputError: it cannot, with every reason.
    """
    unbuilt.refuse("this run cannot be made on a CPU", _reasons(workload))


def _reasons(workload: Workload) -> Iterator[str]:
    if workload.attention not in KERNELS:
        yield f"its attention is {workload.attention}"
    yield from unbuilt.reasons(workload)
    if workload.quantization is not None and workload.quantization.kind == "int8":
        yield from _of_bytes(workload)


def _of_bytes(workload: Workload) -> Iterator[str]:
    """What int8 weights do not do on a CPU (PEFT 0.21 loses their scales when it takes their norms)."""
    if workload.task is Task.GENERATE or workload.evaluation is not None:
        yield "without gradients its int8 products are made by kernels that differ from CPU to CPU"
    if workload.adapter is not None and workload.adapter.dora:
        yield "PEFT does not train DoRA on int8 weights here"
