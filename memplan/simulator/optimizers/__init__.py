"""Optimizers: which states each keeps, and what its step makes on the way.

An optimizer is one module, listed in ``OPTIMIZERS`` under the names it goes by: a function that updates
every trainable parameter that has a gradient, making states through the ``States`` it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from memplan.domain.workload import Optimizer
from memplan.simulator.autograd import Leaf
from memplan.simulator.optimizers import adafactor, adamw, bitsandbytes, muon, sgd
from memplan.simulator.optimizers.states import States

Update = Callable[[Optimizer, States, list[Leaf]], None]

OPTIMIZERS: Mapping[str, Update] = {
    "adamw": adamw.update,
    "adam": adamw.update,
    "sgd": sgd.update,
    "adafactor": adafactor.update,
    "muon": muon.update,
    "adamw_8bit": bitsandbytes.update,
    "paged_adamw_8bit": bitsandbytes.update,
    "paged_adamw_32bit": bitsandbytes.update,
    "lion": bitsandbytes.update,
    "lion_8bit": bitsandbytes.update,
    "paged_lion_8bit": bitsandbytes.update,
    "paged_lion_32bit": bitsandbytes.update,
}
"""Every optimizer that is simulated; others are counted as AdamW, and said to be."""
