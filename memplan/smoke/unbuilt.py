"""What no run of the real classes is built for, on whatever device: said by name, never run as another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.errors import InputError
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Task, Workload
from memplan.smoke.libraries import BITSANDBYTES
from memplan.smoke.optimizers import MAKERS

CACHES = ("dynamic", "static")

EXPECTED = "a known model in bf16, fp16, fp32 or autocast: training in full or with adapters, or generation"


def refuse(what: str, found: Iterable[str], expected: str = EXPECTED) -> None:
    """Refuse ``what`` for every reason that was found.

    Raises:
        InputError: there is one.
    """
    said = "; ".join(found)
    if said:
        raise InputError(f"{what}: {said}", expected=expected)


def reasons(workload: Workload) -> Iterator[str]:
    """Everything about a workload that cannot be run, in words; nothing when all of it can."""
    if not isinstance(workload.model, Architecture):
        yield "its tensors are declared, so there is no class to run"
        return
    if workload.framework.code != "transformers":
        yield f"its model is {workload.framework.code}'s"
    if workload.adapter is not None and (workload.adapter.kind != "lora" or workload.adapter.parameters):
        yield "its adapters are not on linear layers"
    if workload.kernels.liger:
        yield "its kernels are Liger's"
    if workload.world.data_parallel > 1 or workload.world.sharding != "none":
        yield "it runs on several GPUs"
    yield from _of_training(workload) if workload.task is Task.TRAIN else _of_generation(workload)
    yield from (item.reason for item in workload.unmodelled)


def of_bitsandbytes(workload: Workload) -> Iterator[str]:
    """What takes bitsandbytes, whose kernels are run on a CPU only."""
    if workload.quantization is not None:
        yield f"its weights are stored as {workload.quantization.kind}"
    if workload.task is Task.TRAIN and workload.optimizer.name in BITSANDBYTES:
        yield f"its optimizer is {workload.optimizer.name}"


def _of_generation(workload: Workload) -> Iterator[str]:
    if workload.generate.cache not in CACHES:
        yield f"its cache is {workload.generate.cache}"
    if workload.generate.new_tokens < 1:
        yield "it generates nothing"


def _of_training(workload: Workload) -> Iterator[str]:
    precision = workload.precision
    if workload.optimizer.name not in MAKERS:
        yield f"its optimizer is {workload.optimizer.name}"
    if precision.master is not None:
        yield f"its optimizer works on {precision.master} copies"
    if precision.gradients not in (None, precision.params):
        yield f"its gradients are {precision.gradients}"
    if precision.optimizer_state not in (None, precision.params):
        yield f"its optimizer states are {precision.optimizer_state}"
    causal = isinstance(workload.model, Architecture) and workload.model.causal
    if workload.loss.kind not in (("cross_entropy", "chunked") if causal else ("cross_entropy",)):
        yield f"its loss is {workload.loss.kind}"
    if workload.checkpointing.chunk > 1:
        yield "its blocks are checkpointed in chunks, which transformers does not"
    if workload.checkpointing.offload or workload.activation_offload is not ActivationOffload.NONE:
        yield "its activations go to host memory"
