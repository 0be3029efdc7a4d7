"""What a real run on the CPU needs around it: warm libraries, no collector, memory, errors in words."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch
from torch.nn import functional

from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError

SMALLER = "run it scaled down to a few layers: --scaled; or on tensors without bytes: --device fake"


def use_libraries() -> None:
    """A step of a few numbers: what PyTorch loads when it is first used is none of the model's."""
    layer = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.LayerNorm(64), torch.nn.GELU())
    optimizer = torch.optim.AdamW(layer.parameters())
    for _ in range(2):
        functional.cross_entropy(layer(torch.ones(64, 64)), torch.ones(64, dtype=torch.int64)).backward()
        optimizer.step()
        optimizer.zero_grad()


@contextmanager
def without_collector() -> Iterator[None]:
    """Lifetimes follow from references alone."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def own_words() -> Iterator[None]:
    """What PyTorch raises, as an error of the input: the model was asked for something it cannot do."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(f"the real run broke off: {said}") from error


def check_memory(needed: int, hint: str = SMALLER) -> None:
    """Refuse to fill the machine; the ``hint`` says what to do instead.

    Raises:
        InputError: more is needed than is free.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"the run takes {Bytes(needed).rounded()} and {Bytes(free).rounded()} of host memory are free:"
            f" {Bytes(needed - free).rounded()} are missing",
            hint=hint,
        )
