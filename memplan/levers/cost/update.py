"""The optimizer's step: how often parameters, gradients and states pass through memory, and its kernels.

One kernel that does all (``fused``, and bitsandbytes') reads gradients and reads and writes the rest.
PyTorch's other implementations run one op after the other over everything (``_multi_tensor_adamw`` and
``_single_tensor_adamw`` in torch/optim/adam.py): decay of the weights (2), first moment (2, and 1 of
gradients), second (4, and 1 of gradients), its root, corrected, plus epsilon (1, and 5 of the root), and the
update (2 of weights, 1, and 1 of the root). ``for_loop`` launches each op for each parameter.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.levers.cost.rates import DRIVE, KERNEL_GAP, Rates

OPS = 11
"""Kernels of one parameter's AdamW step when nothing is fused."""

CPU_ADAM = 10e9 / 2.57
"""Parameters a second that DeepSpeed's CPUAdam updates: 10 billion in 2.57 s (Ren et al., ZeRO-Offload,
arXiv:2101.06840, Table 4)."""

_ONE_MOMENT = ("lion", "sgd", "rmsprop", "adagrad", "muon")


def update_seconds(workload: Workload, trained: int, tensors: int, rates: Rates, shards: int) -> float:
    """One optimizer step of a GPU that holds one of ``shards`` of what is trained."""
    optimizer = workload.optimizer
    own = _own(workload)
    mine = trained / shards
    gradient = (workload.precision.gradients or own_dtype(workload)).itemsize
    moved, kernels = _step(workload, own, gradient)
    extra = (3 * gradient if optimizer.clipping else 0) + (0 if optimizer.set_to_none else gradient)
    seconds = mine * (moved + extra) / rates.bandwidth + kernels * tensors / shards * KERNEL_GAP
    if optimizer.name.startswith("paged"):
        return seconds + 2 * _spilled(workload, trained, gradient, rates) / rates.host_link
    return seconds


def _step(workload: Workload, own: int, gradient: int) -> tuple[float, float]:
    """Bytes per parameter and kernels per tensor."""
    optimizer, state = workload.optimizer, _state(workload, own)
    moments = _moments(workload)
    one_kernel = optimizer.implementation == "fused" or optimizer.name.endswith(("8bit", "32bit"))
    if one_kernel:
        return 2 * own + gradient + 2 * moments * state, 1.0
    kernels = OPS if optimizer.implementation == "for_loop" else 0.0
    if moments == 2:
        return 4 * own + 2 * gradient + 14 * state, kernels
    return 4 * own + 2 * gradient + 4 * moments * state, kernels


def _moments(workload: Workload) -> int:
    optimizer = workload.optimizer
    if optimizer.name == "sgd":
        return 1 if optimizer.momentum else 0
    if optimizer.name == "adafactor":
        return 0
    return 1 if any(name in optimizer.name for name in _ONE_MOMENT) else 2


def _state(workload: Workload, own: int) -> int:
    name = workload.optimizer.name
    if name.endswith("8bit"):
        return 1
    if name.endswith("32bit"):
        return 4
    given = workload.precision.optimizer_state
    return given.itemsize if given else own


def own_dtype(workload: Workload) -> Dtype:
    """The dtype of what is trained."""
    return workload.adapter.dtype if workload.adapter else workload.precision.params


def _own(workload: Workload) -> int:
    master = workload.precision.master
    return master.itemsize if master else own_dtype(workload).itemsize


def _spilled(workload: Workload, trained: int, gradient: int, rates: Rates) -> float:
    """Bytes of paged states that find no room beside weights and gradients: they come and go every step."""
    model = workload.model
    assert isinstance(model, Architecture)
    stored = workload.precision.params.itemsize if workload.quantization is None else 0.5
    kept = model.parameters * stored + trained * gradient
    states = trained * _moments(workload) * _state(workload, 4)
    return min(states, max(0.0, kept + states - rates.limit)) if rates.limit else 0.0


def offloaded_seconds(workload: Workload, trained: int, rates: Rates, shards: int) -> float:
    """A step on the host, for whose parameters all GPUs share one processor; they come back over PCIe."""
    seconds = trained / CPU_ADAM
    if workload.world.zero.optimizer is Place.NVME:
        seconds += trained * 2 * (1 + _moments(workload)) * 4 / DRIVE
    return seconds + trained / shards * workload.precision.params.itemsize / rates.host_link
