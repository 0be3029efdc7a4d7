"""Activations that wait for backward in host memory: bytes that leave in forward and come back in backward.

Per token a checkpointed region saves its input. A block that is not saves what autograd keeps of it: around
norms in fp32 and in b bytes (8+2b; Liger's: b), queries, keys, values and what attention returns, and inputs
of the MLP's activation, gate and last product.
"""

from __future__ import annotations

from memplan.domain.host import ActivationOffload
from memplan.domain.kernels import RMS_NORM
from memplan.domain.workload import Workload
from memplan.levers.cost.facts import Facts
from memplan.levers.cost.kernels import residual_dtype

PAGEABLE = 2
"""``save_on_cpu`` copies to memory that is not page-locked, which the driver copies once more on the way."""


def offloaded_bytes(facts: Facts, workload: Workload, tokens: int, recomputed: float) -> float:
    """Bytes that one forward pass sends to the host; ``recomputed`` is the share of blocks that is."""
    b = residual_dtype(workload).itemsize
    inputs = recomputed * facts.depth * facts.hidden * b
    kind = workload.activation_offload
    if kind is ActivationOffload.NONE:
        return tokens * inputs if workload.checkpointing.offload else 0.0
    norms = b if facts.layer_norm or RMS_NORM in workload.kernels.liger else 8 + 2 * b
    kept = facts.norms * norms + 2 * b * facts.depth * (facts.queries + facts.keys)
    kept += (4 if facts.gated else 2) * b * facts.activated
    sent = tokens * (inputs + (1 - recomputed) * kept)
    if kind is ActivationOffload.SAVE_ON_CPU:
        return PAGEABLE * (sent + facts.weights * b)
    return sent


def serial(workload: Workload) -> bool:
    """Whether kernels wait for the copies."""
    return workload.activation_offload in (ActivationOffload.SAVE_ON_CPU, ActivationOffload.SINGLE_STREAM)
