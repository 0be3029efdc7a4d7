"""The trace of a model: as many layers as show all of it are simulated, and unfolded to its full depth."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress

from memplan.domain.architecture import Architecture
from memplan.domain.errors import FieldError
from memplan.domain.host import ActivationOffload
from memplan.domain.trace import Trace
from memplan.domain.workload import Task, Workload
from memplan.simulator.folding import Fold, fold
from memplan.simulator.loading import readers
from memplan.simulator.peaks import peaks
from memplan.simulator.repetition import unfold
from memplan.simulator.units import IrregularError


def simulate(workload: Workload, shape: Architecture, capability: tuple[int, int]) -> Trace:
    """The allocations of a run on a GPU of this compute capability.

    Raises:
        FieldError: the model has no such task.
    """
    part = folded(workload, shape)
    if part is not None:
        with suppress(IrregularError):
            return unfold(simulated(workload, shape, capability, part), part)
    return simulated(workload, shape, capability)


def least_allocated(workload: Workload, shape: Architecture, capability: tuple[int, int]) -> int:
    """Bytes that are allocated at once at the least, in the same time at any depth.

    Raises:
        FieldError: the model has no such task.
    """
    part = folded(workload, shape)
    if part is not None:
        with suppress(IrregularError):
            trace = simulated(workload, shape, capability, part)
            return max(peaks(trace, part, workload.allocator).values())
    return max(peaks(simulated(workload, shape, capability), None, workload.allocator).values())


def folded(workload: Workload, shape: Architecture) -> Fold | None:
    """The layers to simulate; None for all: of a shallow model, or where states are spread over GPUs.

    Copies to the host on a stream of their own hold tensors of one layer during the next, so not with these;
    neither while threads read ahead of the layer that is loaded.

    Layers are alike if they attend alike, both with positions or without, are both dense or both mixtures of
    experts, and are both checkpointed or not, in the same place of regions that are alike.
    """
    if workload.world.data_parallel > 1 or workload.world.sharding != "none":
        return None
    if workload.activation_offload is ActivationOffload.STREAMS:
        return None
    if workload.quantization is not None and readers(workload.quantization, workload.framework):
        return None
    return fold(_kinds(workload, shape))


def _kinds(workload: Workload, shape: Architecture) -> list[Hashable]:
    dense = shape.mixture.dense if shape.mixture is not None else ()
    layers = shape.num_hidden_layers
    plain = [(shape.layer_type(index), index in dense, index in shape.unrotated) for index in range(layers)]
    kinds: list[Hashable] = list(plain)
    before: tuple[Hashable, ...] = ()
    for region in workload.checkpointing.regions(layers):
        whole = tuple(plain[index] for index in region)
        # The last region may be what is left over: the beginning of one like those before it.
        before = before if whole == before[: len(whole)] else whole
        for place, index in enumerate(region):
            kinds[index] = (place, before)
    return kinds


def simulated(
    workload: Workload, shape: Architecture, capability: tuple[int, int], part: Fold | None = None
) -> Trace:
    """The trace of some layers of a model, or of all of them.

    Raises:
        FieldError: the model has no such task.
    """
    from memplan.families import build
    from memplan.simulator.generation import generate
    from memplan.simulator.kernels import choose
    from memplan.simulator.step import train

    if workload.task is Task.GENERATE and not shape.causal:
        raise FieldError(f"a {shape.model_type} does not generate here", expected="task: train")
    kind = choose(shape, workload, capability)
    run = generate if workload.task is Task.GENERATE else train
    return run(workload, lambda tape: build(tape, shape, workload, kind), capability, part)
