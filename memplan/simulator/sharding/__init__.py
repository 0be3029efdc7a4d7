"""How a model is spread over GPUs: each sharding is a module, listed in ``SHARDINGS``, imported when asked.

Such a module has ``wrap(tape, workload, model)``, which gives a ``Whole``: the model as one GPU runs it.
"""

from __future__ import annotations

from importlib import import_module

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Workload
from memplan.simulator.sharding.whole import Model, Whole
from memplan.simulator.tensor import Tape

__all__ = ["SHARDINGS", "Model", "Whole", "simulated", "wrap"]

SHARDINGS: dict[str, str] = {
    "none": "ddp",
    "fsdp1": "fsdp1",
    "fsdp2": "fsdp2",
    "zero1": "zero",
    "zero2": "zero",
    "zero3": "zero",
}
"""The module of each ``world.sharding``."""


def simulated(workload: Workload) -> bool:
    """Whether what the workload's world asks for is simulated.

    Of FSDP that is decoders. With FSDP2 their blocks are not quantized, and reentrant checkpointing hides
    them from its hooks. FSDP1 wraps what PEFT adds, of which only low-rank adapters are simulated so, and
    flattens parameters of one dtype only: 4-bit weights go with others that were not made fp32.
    """
    if workload.world.sharding in ("fsdp1", "fsdp2"):
        causal = isinstance(workload.model, Architecture) and workload.model.causal
        if workload.world.sharding == "fsdp1":
            return causal and _plain(workload)
        return causal and workload.quantization is None and not workload.checkpointing.reentrant
    return workload.world.sharding in SHARDINGS


def _plain(workload: Workload) -> bool:
    adapter, quantization = workload.adapter, workload.quantization
    if quantization is not None and (quantization.kind == "int8" or adapter is None or adapter.prepare_kbit):
        return False
    return adapter is None or not (adapter.dora or adapter.modules_to_save or adapter.parameters)


def wrap(tape: Tape, workload: Workload, model: Model) -> Whole:
    """The model as one GPU of the workload's world runs it; called when it has been loaded.

    On a single GPU frameworks wrap nothing, but for DeepSpeed.
    """
    name = SHARDINGS.get(workload.world.sharding)
    if name is None or not simulated(workload) or (workload.world.data_parallel == 1 and name != "zero"):
        return Whole(tape, workload, model)
    found: Whole = import_module(f"memplan.simulator.sharding.{name}").wrap(tape, workload, model)
    return found
