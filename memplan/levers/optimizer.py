"""The same optimizer in less memory: fused, with its states paged to host memory, or with 8-bit states."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "optimizer"
SUMMARY = "the same optimizer, fused, paged or with 8-bit states"
HARM = Harm.NUMERIC

PACKAGE = "bitsandbytes"
LOOP = "for_loop"

_FUSED = ("adamw", "adam")
"""PyTorch's optimizers that keep roots of all second moments at once unless they are fused."""

_FUSED_SINCE = (2, 0)
"""The release of PyTorch that fuses AdamW on CUDA (``fused`` in torch/optim/adamw.py)."""

_IMPLEMENTATIONS = {
    "fused": "one kernel updates each parameter, without temporaries",
    LOOP: "its step makes temporaries of one parameter at a time",
}
_SMALLER = {
    "adamw": ("adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"),
    "adamw_8bit": ("paged_adamw_8bit",),
    "lion": ("lion_8bit", "paged_lion_8bit", "paged_lion_32bit"),
    "lion_8bit": ("paged_lion_8bit",),
}
"""bitsandbytes' variants of an optimizer whose states take less of a GPU's memory. Paged states of 32 bits
are the leanest: those of 8 bits have scales that stay on the GPU."""

_REASONS = {
    (True, False): "states lie in memory that the driver moves to the host when the GPU needs the room",
    (False, True): "states take 8 bits a number and a scale for every 256",
    (True, True): "states of 8 bits a number, in memory that the driver moves to the host",
}


def options(workload: Workload, _target: Target | None) -> tuple[Option, ...]:
    """Fused, then bitsandbytes' variants, the leanest last.

    bitsandbytes' optimizers take neither FSDP's sharded tensors nor DeepSpeed's flat partitions here, and
    work on the parameters themselves, not on copies.
    """
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    alone = workload.world.sharding == "none" and workload.precision.master is None
    return (*_torch(workload), *(_bitsandbytes(workload) if alone else ()))


def _torch(workload: Workload) -> Iterator[Option]:
    """Fused in place of foreach, whose step makes a root of every second moment at once, and of the loop.

    The loop makes two tensors of the largest parameter, and takes the place of foreach where nothing fuses.
    """
    optimizer = workload.optimizer
    wanted = LOOP if workload.framework.torch_before(*_FUSED_SINCE) else "fused"
    if optimizer.name in _FUSED and optimizer.implementation not in ("fused", wanted):
        yield Option(
            changes={"optimizer.implementation": wanted},
            harm=Harm.EXACT,
            reason=_IMPLEMENTATIONS[wanted],
        )


def _bitsandbytes(workload: Workload) -> Iterator[Option]:
    """The same rule with states elsewhere is exact if they were fp32 before; in 8 bits they are rounded.

    Of several GPUs only paged states: the others save less, and may come together with sharded tensors.
    """
    optimizer, alone = workload.optimizer, workload.world.data_parallel == 1
    for name in _SMALLER.get(optimizer.name, ()):
        paged, small = name.startswith("paged"), name.endswith("8bit")
        if not (paged or alone):
            continue
        same = small == optimizer.name.endswith("8bit") and (small or _state(workload) is Dtype.FP32)
        implementation = {} if optimizer.implementation == LOOP else {"optimizer.implementation": LOOP}
        yield Option(
            changes={"optimizer.name": name, **implementation},
            harm=Harm.EXACT if same else Harm.NUMERIC,
            reason=_REASONS[paged, small],
            degree=0 if same else 1,
            requires=(PACKAGE,) if optimizer.name == "adamw" else (),
        )


def _state(workload: Workload) -> Dtype:
    """What the states take now: bitsandbytes' are fp32 whatever the parameters are."""
    own = workload.adapter.dtype if workload.adapter is not None else workload.precision.params
    return workload.precision.optimizer_state or own
