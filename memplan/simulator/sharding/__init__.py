"""How a model is spread over GPUs: each sharding is a module, listed in ``SHARDINGS``, imported when asked.

Such a module has ``wrap(tape, workload, model)``, which gives a ``Whole``: the model as one GPU runs it.
"""

from __future__ import annotations

from importlib import import_module

from memplan.domain.workload import Workload
from memplan.simulator.sharding.whole import Model, Whole
from memplan.simulator.tensor import Tape

__all__ = ["SHARDINGS", "Model", "Whole", "wrap"]

SHARDINGS: dict[str, str] = {}
"""The module of each ``world.sharding``."""


def wrap(tape: Tape, workload: Workload, model: Model) -> Whole:
    """The model as one GPU of the workload's world runs it; called when it has been loaded.

    On a single GPU frameworks wrap nothing.
    """
    name = SHARDINGS.get(workload.world.sharding)
    if name is None or workload.world.data_parallel == 1:
        return Whole(tape, workload, model)
    found: Whole = import_module(f"memplan.simulator.sharding.{name}").wrap(tape, workload, model)
    return found
