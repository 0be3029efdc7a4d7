"""The optimizer's step: how often parameters, gradients and states pass through memory, and its kernels.

One kernel that does all (``fused``, for many tensors at once, and bitsandbytes', for each) reads gradients
and reads and writes the rest. PyTorch's other implementations run one op after the other over everything
(``_multi_tensor_adamw`` and ``_single_tensor_adamw`` in torch/optim/adam.py): decay of the weights (2), first
moment (2, and 1 of gradients), second (4, and 1 of gradients), its root, corrected, plus epsilon (1, and 5 of
the root), and the update (2 of weights, 1, and 1 of the root). ``for_loop`` launches each op for each
parameter. Paged optimizers, which ask for their states tensor by tensor, are charged like it, and for what
has no room on the GPU: so they are never faster than what they take the place of.
"""

from __future__ import annotations

from functools import lru_cache

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.domain.zero import Place
from memplan.levers.cost.rates import DRIVE, KERNEL_GAP, Rates

OPS = 11
"""Kernels of one parameter's AdamW step when nothing is fused."""

CPU_ADAM = 10e9 / 2.57
"""Parameters a second that DeepSpeed's CPUAdam updates: 10 billion in 2.57 s (Ren et al., ZeRO-Offload,
arXiv:2101.06840, Table 4; entered from memory and not yet checked against the paper: it ranks plans only)."""

_ONE_MOMENT = ("lion", "sgd", "rmsprop", "adagrad", "muon")


def update_seconds(workload: Workload, trained: int, tensors: int, rates: Rates) -> float:
    """One optimizer step over everything that is trained; of shards each takes its share."""
    optimizer = workload.optimizer
    own = _own(workload)
    gradient = (workload.precision.gradients or own_dtype(workload)).itemsize
    moved, kernels = _step(workload, own, gradient)
    extra = (3 * gradient if optimizer.clipping else 0) + (0 if optimizer.set_to_none else gradient)
    seconds = trained * (moved + extra) / rates.bandwidth + kernels * tensors * KERNEL_GAP
    if optimizer.name.startswith("paged"):
        return seconds + 2 * _spilled(workload, trained, gradient, rates) / rates.host_link
    return seconds


def _step(workload: Workload, own: int, gradient: int) -> tuple[float, float]:
    """Bytes per parameter and kernels per tensor."""
    optimizer, state = workload.optimizer, _state(workload, own)
    moments = _moments(optimizer.name, bool(optimizer.momentum))
    paged = optimizer.name.startswith("paged")
    alone = optimizer.name.endswith("8bit") or optimizer.name == "lion"
    if optimizer.implementation == "fused" or (alone and not paged):
        return 2 * own + gradient + 2 * moments * state, 1.0 if alone else 0.0
    kernels = OPS if paged or optimizer.implementation == "for_loop" else 0.0
    if moments == 2:
        return 4 * own + 2 * gradient + 14 * state, kernels
    return 4 * own + 2 * gradient + 4 * moments * state, kernels


@lru_cache(maxsize=256)
def _moments(name: str, momentum: bool) -> int:
    """States that are as large as the parameters."""
    if name == "sgd":
        return 1 if momentum else 0
    if name == "adafactor":
        return 0
    return 1 if any(known in name for known in _ONE_MOMENT) else 2


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
    optimizer = workload.optimizer
    states = trained * _moments(optimizer.name, bool(optimizer.momentum)) * _state(workload, 4)
    return min(states, max(0.0, kept + states - rates.limit)) if rates.limit else 0.0


def offloaded_seconds(workload: Workload, trained: int, rates: Rates, shards: int) -> float:
    """A step on the host, for whose parameters all GPUs share one processor; they come back over PCIe."""
    seconds = trained / CPU_ADAM
    if workload.world.zero.optimizer is Place.NVME:
        optimizer = workload.optimizer
        moments = _moments(optimizer.name, bool(optimizer.momentum))
        seconds += trained * 2 * (1 + moments) * 4 / DRIVE
    return seconds + trained / shards * workload.precision.params.itemsize / rates.host_link
