"""Exchanges that are over when they say so.

gloo works in threads of its own. They hold what was exchanged until they get round to letting it go, which
may be after the run has: when memory is freed then is up to the machine's scheduler, and the profiler does
not see it. NCCL holds nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import gt
from typing import Any
from unittest.mock import patch

import torch

FUNCTIONS = (
    "all_gather_into_tensor",
    "all_gather_single",
    "reduce_scatter_tensor",
    "reduce_scatter_single",
    "all_gather",
    "all_reduce",
    "broadcast",
    "reduce",
)
"""What FSDP2 exchanges with (DefaultAllGather and DefaultReduceScatter of its _fsdp_collectives.py), and
DeepSpeed (``TorchBackend`` of its comm/torch.py)."""

PATIENCE = 5.0
"""Seconds after which a thread that lets nothing go is no longer waited for."""

_PAUSE = 0.0002


class Done:
    """The handle of an exchange that is over."""

    def wait(self, timeout: object = None) -> bool:
        """Nothing to wait for."""
        del timeout
        return True


@contextmanager
def prompt() -> Iterator[None]:
    """Within the block, exchanges return when they are over and gloo's threads have let go."""
    with ExitStack() as stack:
        for name in FUNCTIONS:
            plain = getattr(torch.distributed, name, None)
            if plain is not None:
                stack.enter_context(patch.object(torch.distributed, name, partial(_exchange, plain)))
        yield


def _exchange(plain: Any, *args: Any, async_op: bool = False, **kwargs: Any) -> Any:
    """Call it and wait until nobody holds more of its tensors than before.

    It gets tensors of its own on the same memory: how many of these there are can be seen.
    """
    storages = [tensor.untyped_storage() for value in (*args, *kwargs.values()) for tensor in _tensors(value)]
    before = [_holders(storage) for storage in storages]
    plain(*map(_own, args), async_op=False, **{name: _own(value) for name, value in kwargs.items()})
    until = time.monotonic() + PATIENCE
    while any(map(gt, map(_holders, storages), before)) and time.monotonic() < until:
        time.sleep(_PAUSE)
    return Done() if async_op else None


def _tensors(value: Any) -> list[Any]:
    found = value if isinstance(value, list | tuple) else [value]
    return [tensor for tensor in found if isinstance(tensor, torch.Tensor)]


def _own(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_own(item) for item in value]
    return value.detach() if isinstance(value, torch.Tensor) else value


def _holders(storage: Any) -> int:
    return int(torch._C._storage_Use_Count(storage._cdata))
