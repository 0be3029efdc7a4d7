"""What the trace of the real classes does not cover: refused by name, so that nothing is compared by half."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.errors import InputError
from memplan.domain.workload import Task, Workload

OPTIMIZERS = ("adamw", "adam", "sgd")


def refuse(workload: Workload) -> None:
    """Check that a workload can be traced.

    Raises:
        InputError: it cannot, with every reason.
    """
    reasons = tuple(_reasons(workload))
    if reasons:
        raise InputError(
            f"this run cannot be traced on fake tensors: {'; '.join(reasons)}",
            expected="training of a known model in bf16, fp16, fp32 or autocast, in full or with LoRA",
        )


def _reasons(workload: Workload) -> Iterator[str]:
    if not isinstance(workload.model, Architecture):
        yield "its tensors are declared, so there is no class to run"
    if workload.task is not Task.TRAIN:
        yield f"its task is {workload.task}"
    if workload.quantization is not None:
        yield f"its weights are stored as {workload.quantization.kind}"
    if workload.adapter is not None and workload.adapter.kind != "lora":
        yield f"its adapters are {workload.adapter.kind}"
    if workload.loss.kind != "cross_entropy":
        yield f"its loss is {workload.loss.kind}"
    if workload.kernels.liger:
        yield "its kernels are Liger's"
    if workload.evaluation is not None:
        yield "it evaluates between steps"
    if workload.world.data_parallel > 1 or workload.world.sharding != "none":
        yield "it runs on several GPUs"
    if workload.checkpointing.chunk > 1:
        yield "its blocks are checkpointed in chunks, which transformers does not"
    yield from _of_the_optimizer(workload)
    yield from (item.reason for item in workload.unmodelled)


def _of_the_optimizer(workload: Workload) -> Iterator[str]:
    precision = workload.precision
    if workload.optimizer.name not in OPTIMIZERS:
        yield f"its optimizer is {workload.optimizer.name}"
    if precision.master is not None:
        yield f"its optimizer works on {precision.master} copies"
    if precision.gradients not in (None, precision.params):
        yield f"its gradients are {precision.gradients}"
    if precision.optimizer_state not in (None, precision.params):
        yield f"its optimizer states are {precision.optimizer_state}"
