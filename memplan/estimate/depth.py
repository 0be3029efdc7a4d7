"""How much of a deep model has to be simulated to know all of it."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Workload
from memplan.simulator.folding import Fold, fold


def folded(workload: Workload, shape: Architecture) -> Fold | None:
    """The layers to simulate; None for all: of a shallow model, or where states are spread over GPUs.

    Layers are alike if they attend alike, are both dense or both mixtures of experts, and are both
    checkpointed or not.
    """
    if workload.world.data_parallel > 1:
        return None
    every = workload.checkpointing.every or 1
    dense = shape.mixture.dense if shape.mixture is not None else ()
    return fold(
        [(shape.layer_type(index), index in dense, index % every) for index in range(shape.num_hidden_layers)]
    )
