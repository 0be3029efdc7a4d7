"""The optimizer a DeepSpeed config asks for, which then is DeepSpeed's own.

Source: ``_configure_basic_optimizer`` in deepspeed/runtime/engine.py (0.19.8): names are compared in
lower case, and one it has no class of is looked up in ``torch.optim``.
"""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.domain.workload import Optimizer, Workload

KNOWN = {
    "adam": Optimizer(name="adamw", implementation="fused"),
    "adamw": Optimizer(name="adamw", implementation="fused"),
    "lion": Optimizer(name="lion", implementation="for_loop"),
    "muon": Optimizer(name="muon", implementation="for_loop"),
    "sgd": Optimizer(name="sgd", implementation="foreach"),
}
"""Types by what they keep: Adam is FusedAdam, or DeepSpeedCPUAdam where states are offloaded."""


def optimizer(keys: Keys, workload: Workload) -> Optimizer | None:
    """The optimizer of the section ``optimizer``; None where the training script makes its own.

    Type ``Adam`` keeps AdamW's states whatever ``adam_w_mode`` says.
    """
    value = keys.get("optimizer.type")
    if value is None:
        return None
    for field in ("optimizer.name", "optimizer.implementation"):
        keys.note(field, value)
    found = KNOWN.get(value.word().lower()) or Optimizer(name=value.word().lower(), implementation="for_loop")
    if keys.flag("optimizer.params.torch_adam") and found.name == "adamw":
        found = Optimizer(name="adamw", implementation="foreach")
    clipping = _clips(keys.get("gradient_clipping"), default=workload.optimizer.clipping)
    return Optimizer(
        name=found.name,
        implementation=found.implementation,
        momentum=_momentum(keys) if found.name == "sgd" else 0.0,
        clipping=clipping,
    )


def _clips(value: Value | None, default: bool) -> bool:
    if value is None or value.written() == "auto":
        return default
    return value.number(0, 1e12) > 0


def _momentum(keys: Keys) -> float:
    value = keys.get("optimizer.params.momentum")
    return 0.0 if value is None or value.written() == "auto" else value.number(0, 1)
