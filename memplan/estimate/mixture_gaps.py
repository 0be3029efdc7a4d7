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
from memplan.domain.workload import Attention, Task, Workload

MXFP4_BITS = 4.25
"""Four-bit numbers and an 8-bit scale for 32 of them (OCP Microscaling Formats 1.0, §5)."""

_ROUTER = "gate"
_MADE_OF_A_ROUTER = 3
_COPIES_TRAINED = 4


def mixture_gaps(workload: Workload, shape: Architecture, sizes: dict[str, int]) -> Iterator[Gap]:
    """Every gap of a model with experts; none for other models."""
    mixture = shape.mixture
    if mixture is None:
        return
    yield from _packed(workload, shape, mixture)
    if workload.task is Task.TRAIN:
        yield from _balance(workload, shape, mixture)
        yield from _adapted(workload, shape)
        yield from _old(workload, sizes)
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


def _old(workload: Workload, sizes: dict[str, int]) -> Iterator[Gap]:
    """Before transformers 5 every expert was a module with linear layers, and ran over its own tokens.

    What it keeps of them adds up to no more than once more what grouped products keep; adapters of its layers
    have half the numbers of adapters of fused ones.
    """
    if not workload.framework.transformers_before(5, 0):
        return
    adapter = workload.adapter
    trained = sizes["adapter"] + sizes["gradients"] + sizes["optimizer_state"] if adapter is not None else 0
    yield Gap(
        reason="experts ran one after the other before transformers 5: counted as grouped products",
        low=Bytes(trained // 2),
        high=Bytes(sizes["activations"]),
    )


def _adapted(workload: Workload, shape: Architecture) -> Iterator[Gap]:
    """``peft`` adapts routers as parameters: every pass adds the update to a copy of a layer's router.

    Update, copy and gradient of it, for each layer; the adapters' weights with gradients and two states.
    """
    adapter, mixture = workload.adapter, shape.mixture
    if adapter is None or mixture is None or _ROUTER not in adapter.targets:
        return
    layers = shape.num_hidden_layers - len(mixture.dense)
    matrix = mixture.experts * shape.hidden_size
    numbers = adapter.rank * (mixture.experts + shape.hidden_size)
    yield Gap(
        reason="adapters of routers are not simulated",
        high=Bytes(layers * Dtype.FP32.itemsize * (_MADE_OF_A_ROUTER * matrix + _COPIES_TRAINED * numbers)),
    )
