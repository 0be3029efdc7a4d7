"""How a CPU is set up so that it computes in the ways a GPU does, as far as memory goes.

One thread, since threads have scratch memory of their own; no oneDNN for fp32, whose scratch memory has no
counterpart on a GPU (products of half numbers need it, being many times slower without); dropout in one op,
as CUDA has it, where a CPU composes several; CUDA's lists of ops under autocast.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from memplan.domain.workload import Attention, Workload
from memplan.smoke.autocast import cuda_lists
from memplan.smoke.functions import announced, dropout
from memplan.smoke.labels import Listener

KERNELS = {Attention.MATH: SDPBackend.MATH}
"""Kernels a workload may ask for by name."""


@contextmanager
def like_a_gpu(workload: Workload, listener: Listener | None = None) -> Iterator[None]:
    """All of it until the block ends; a ``listener`` hears of every loss function that is called."""
    with ExitStack() as stack:
        stack.enter_context(plain_cpu(onednn=workload.compute.is_half))
        if workload.precision.autocast is not None:
            stack.enter_context(cuda_lists())
        stack.enter_context(patch.object(functional, "dropout", partial(dropout, functional.dropout)))
        if listener is not None:
            plain = functional.cross_entropy
            stack.enter_context(
                patch.object(functional, "cross_entropy", partial(announced, plain, listener))
            )
        if (kernel := KERNELS.get(workload.attention)) is not None:
            stack.enter_context(sdpa_kernel(kernel))
        yield


@contextmanager
def plain_cpu(*, onednn: bool = False) -> Iterator[None]:
    """One thread, with or without oneDNN, until the block ends."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before = _onednn(onednn)
    try:
        yield
    finally:
        _onednn(before)
        torch.set_num_threads(threads)


def _onednn(wanted: bool) -> bool:
    """Switch it, and say what it was."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN", UserWarning)
        found: Any = torch.backends.mkldnn.set_flags(_enabled=wanted)
    return bool(found[0])
