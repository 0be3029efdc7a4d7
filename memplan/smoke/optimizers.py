"""The optimizer of a workload: PyTorch's own, transformers' Adafactor, and those of bitsandbytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from memplan.domain.workload import Optimizer, Workload
from memplan.smoke.bitsandbytes import load_bitsandbytes
from memplan.smoke.libraries import BITSANDBYTES

RATE = 1e-3

Make = Callable[[list[Any], Optimizer], Any]


def _adam(kind: Any) -> Make:
    return lambda trained, chosen: kind(trained, lr=RATE, **_implementation(chosen))


def _sgd(trained: list[Any], chosen: Optimizer) -> Any:
    return torch.optim.SGD(trained, lr=RATE, momentum=chosen.momentum, **_implementation(chosen))


def _adafactor(trained: list[Any], _: Optimizer) -> Any:
    """As transformers' Trainer makes it: without a momentum, at the rate it is given."""
    from transformers.optimization import Adafactor

    return Adafactor(trained, lr=RATE, scale_parameter=False, relative_step=False)


def _bitsandbytes(trained: list[Any], chosen: Optimizer) -> Any:
    """As transformers' Trainer makes it (``_get_bitsandbytes_optimizer`` in trainer_optimizer.py, 5.23)."""
    optim = load_bitsandbytes().optim
    kind = optim.Lion if "lion" in chosen.name else optim.AdamW
    bits = 8 if "8bit" in chosen.name else 32
    made = kind(trained, lr=RATE, optim_bits=bits, is_paged=chosen.name.startswith("paged"))
    # It would remark at each run that a CPU has no pages of its own.
    made._cpu_paged_warned = True
    return made


MAKERS: dict[str, Make] = {
    "adamw": _adam(torch.optim.AdamW),
    "adam": _adam(torch.optim.Adam),
    "sgd": _sgd,
    "adafactor": _adafactor,
    **dict.fromkeys(BITSANDBYTES, _bitsandbytes),
}
"""How each optimizer that can be run is made."""


def optimizer(trained: list[Any], workload: Workload) -> Any:
    """The workload's optimizer over the parameters that are trained."""
    return MAKERS[workload.optimizer.name](trained, workload.optimizer)


def _implementation(chosen: Optimizer) -> dict[str, bool]:
    return {name: chosen.implementation == name for name in ("foreach", "fused")}
