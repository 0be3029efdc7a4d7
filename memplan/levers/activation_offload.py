"""Activations in host memory: what autograd saves leaves the GPU in forward and comes back in backward.

Frameworks do it with ``OffloadActivations``, which began in torchtune and went to TRL and axolotl
(``memplan.simulator.offload``). PyTorch's ``save_on_cpu`` sends weights along, which is slower and seldom
leaner, so it is not offered.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.host import ActivationOffload
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Task, Workload

NAME = "activation_offload"
SUMMARY = "let saved activations wait for backward in host memory"
HARM = Harm.EXACT

_WITHOUT = ("litgpt",)
"""Libraries whose training loops have no such hooks."""

_REASONS = {
    ActivationOffload.STREAMS: "saved activations wait in host memory, copied beside the computation",
    ActivationOffload.SINGLE_STREAM: "saved activations wait in host memory, copied between kernels: "
    "none stays on the GPU while it is under way",
}
_LEANER = {
    ActivationOffload.NONE: ActivationOffload.STREAMS,
    ActivationOffload.STREAMS: ActivationOffload.SINGLE_STREAM,
}


def options(workload: Workload, target: Target | None) -> tuple[Option, ...]:
    """Copies beside the computation; where these are made already, between kernels, which holds none longer.

    Nothing where the inputs of checkpointed blocks are in host memory already.
    """
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return ()
    if workload.framework.code in _WITHOUT or workload.checkpointing.offload:
        return ()
    leaner = _LEANER.get(workload.activation_offload)
    if leaner is None:
        return ()
    needs = target.unknown_ram if target is not None else ()
    return (
        Option(changes={"activation_offload": leaner}, harm=HARM, reason=_REASONS[leaner], requires=needs),
    )
