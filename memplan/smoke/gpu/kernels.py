"""Attention's kernels on a card that stands for another: which it has, and what to simulate for them."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

from memplan.domain.architecture import Architecture
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Task, Workload
from memplan.simulator.kernels import choose

EVERYTHING = (Attention.FLASH_ATTENTION_2, Attention.EFFICIENT, Attention.MATH)
OLDER = (Attention.EFFICIENT, Attention.MATH)
"""What is left of PyTorch's attention kernels below compute capability 8.0."""

PLAIN = "TORCH_CUDNN_SDPA_DEPRIORITIZED"
"""Set, PyTorch takes cuDNN's attention kernel last."""


class Simulated(TypedDict):
    """The part of a card that says what to simulate."""

    predicted: Workload
    capability: tuple[int, int]


def chosen(workload: Workload, capability: tuple[int, int]) -> frozenset[Attention]:
    """The attention kernels that a card of this capability takes for the layers of a model."""
    shape = workload.model
    if not isinstance(shape, Architecture) or workload.attention is not Attention.SDPA:
        return frozenset((workload.attention,))
    types = {shape.layer_type(index) for index in range(shape.num_hidden_layers)}
    return frozenset(choose(shape, workload, capability, layer_type) for layer_type in types)


def simulated(
    workload: Workload, capability: tuple[int, int], real: Target, taken: frozenset[Attention]
) -> Simulated:
    """What to simulate: older cards' choice of a kernel, with the temporaries of the kernels for 8.0.

    ``_efficient_backward`` of ``memplan.smoke.cuda`` has the rule by which these differ.
    """
    if workload.task is Task.TRAIN and capability < (8, 0) <= real.compute_capability and len(taken) == 1:
        return {"predicted": replace(workload, attention=min(taken)), "capability": (8, 0)}
    return {"predicted": workload, "capability": capability}


def available(
    workload: Workload, capability: tuple[int, int], taken: frozenset[Attention], *, emulates: bool
) -> tuple[Attention, ...] | None:
    """The kernels ``scaled_dot_product_attention`` is to have; None leaves PyTorch its choice.

    One that is asked for by name is the only one; a card that is emulated has those of its kind.
    """
    if not isinstance(workload.model, Architecture):
        return None
    if workload.attention in EVERYTHING:
        return (workload.attention,)
    if not emulates or workload.attention is not Attention.SDPA:
        return None
    # cuDNN's kernel is in neither list: it is not simulated.
    flash = capability >= (8, 0) and taken & {Attention.FLASH_ATTENTION_2, Attention.SDPA}
    return EVERYTHING if flash else OLDER


def prefers_cudnn(workload: Workload, real: Target) -> bool:
    """On Hopper and Blackwell, where cuDNN is new enough.

    ``check_prefer_cudnn_attention`` in aten/src/ATen/native/transformers/cuda/sdp_utils.cpp.
    """
    attends = isinstance(workload.model, Architecture) and workload.attention is Attention.SDPA
    return attends and real.compute_capability[0] in (9, 10)
