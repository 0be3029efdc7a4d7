"""What is not simulated of models with experts, in bytes below and above the point estimate.

Routing is not among it: experts run as grouped products, whose sizes do not depend on which of them a
token passes.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture, Mixture, ParameterGroup
from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.estimate import Gap
from memplan.domain.workload import Adapter, Attention, Task, Workload

MXFP4_BITS = 4.25
"""Four-bit numbers and an 8-bit scale for 32 of them (OCP Microscaling Formats 1.0, §5)."""

_EXPERT_LAYERS = {"gate_proj", "up_proj", "down_proj"}
_ADAPTED_AS_PARAMETERS = ("qwen3_moe", "deepseek_v3")
_COPIES_TRAINED = 4


def mixture_gaps(workload: Workload, shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """Every gap of a model with experts; none for other models."""
    mixture = shape.mixture
    if mixture is None:
        return
    yield from _packed(workload, shape, mixture)
    if workload.task is Task.TRAIN:
        yield from _balance(workload, shape, mixture)
        yield from _adapted(workload, shape, sizes)
    if shape.sinks and workload.attention is Attention.FLASH_ATTENTION_2:
        yield Gap(reason="FlashAttention with sinks is counted as FlashAttention-2 without")


def experts_of(shape: Architecture) -> list[ParameterGroup]:
    """The parameters that hold all experts of a layer."""
    return [group for group in shape.groups if ".experts." in group.name and len(group.shape) == 3]


def _packed(workload: Workload, shape: Architecture, mixture: Mixture) -> Iterator[Gap]:
    """Full training needs weights it can update; frozen ones may stay as they are published."""
    frozen = workload.adapter is not None or workload.task is not Task.TRAIN
    if mixture.packed and frozen:
        weights = sum(group.parameters for group in experts_of(shape))
        width = workload.precision.params.itemsize
        yield Gap(
            reason=f"experts are published in MXFP4 and counted in {workload.precision.params}",
            low=Bytes(weights * width - int(weights * MXFP4_BITS / 8)),
        )


def _balance(workload: Workload, shape: Architecture, mixture: Mixture) -> Iterator[Gap]:
    """Logits and probabilities of every router are kept, and one layer's gradients are made of them."""
    if not mixture.balanced:
        return
    tokens = workload.batch.micro * workload.sequence.length
    scores = tokens * mixture.experts
    layers = shape.num_hidden_layers - len(mixture.dense)
    kept = 2 * scores * layers * workload.precision.params.itemsize
    made = 4 * scores * Dtype.FP32.itemsize
    yield Gap(reason="the routers' balance loss is not simulated", high=Bytes(kept + made))


def _adapted(workload: Workload, shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """``peft`` adapts experts as parameters: every pass adds the update to a copy of a layer's experts.

    The copy is saved for backward, and gets a gradient as large (``ParamWrapper`` in peft
    src/peft/tuners/lora/layer.py; which names mean experts: utils/transformers_weight_conversion.py).
    """
    adapter = workload.adapter
    if adapter is None or shape.model_type not in _ADAPTED_AS_PARAMETERS:
        return
    if _EXPERT_LAYERS.isdisjoint(adapter.targets):
        return
    width = workload.precision.params.itemsize
    groups = experts_of(shape)
    layer = max((group.parameters // group.copies for group in groups), default=0) * width
    copies = sum(group.parameters for group in groups) * width
    every = workload.checkpointing.every
    if every:
        # Blocks that are recomputed keep a copy only while they are.
        copies -= copies // every
        copies += 2 * layer
    trained = sizes["adapter"] + sizes["gradients"] + sizes["optimizer_state"]
    yield Gap(
        reason="adapters of experts are not simulated: counted as adapters of dense and shared MLPs only",
        low=Bytes(trained),
        high=Bytes(copies + 2 * layer + _weights(adapter, groups)),
    )


def _weights(adapter: Adapter, groups: list[ParameterGroup]) -> int:
    """Adapters of all experts with gradients and two states; twice the rank where two layers are fused."""
    numbers = 0
    for group in groups:
        experts, rows, columns = group.shape
        rank = adapter.rank * (2 if group.name.endswith("gate_up_proj") else 1)
        numbers += group.copies * experts * rank * (rows + columns)
    return _COPIES_TRAINED * numbers * adapter.dtype.itemsize
