"""PyTorch functions that take another way on a GPU than on a CPU: sent the GPU's way.

Replaced by name and not by a function mode, because modes do not reach into the recomputation of checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch.nn import functional

from memplan.domain.framework import Framework
from memplan.domain.workload import Attention
from memplan.smoke import attention
from memplan.smoke.labels import Listener
from memplan.smoke.recorder import Recorder

aten = torch.ops.aten


@contextmanager
def cuda_functions(kind: Attention, framework: Framework, recorder: Recorder) -> Iterator[None]:
    """Attention, ``softmax`` of float16 into float32, and ``dropout`` are CUDA's until the block ends."""
    attend = partial(
        attention.attend, kind, attention.Gpu(recorder.capability, framework), recorder.adding_in_place
    )
    with ExitStack() as stack:
        stack.enter_context(patch.object(functional, "scaled_dot_product_attention", attend))
        stack.enter_context(patch.object(functional, "dropout", partial(dropout, functional.dropout)))
        stack.enter_context(
            patch.object(functional, "cross_entropy", partial(announced, functional.cross_entropy, recorder))
        )
        for owner in (functional, torch):
            stack.enter_context(patch.object(owner, "softmax", partial(_softmax, owner.softmax)))
        yield


def _softmax(plain: Any, x: Any, dim: int | None = None, *args: Any, **kwargs: Any) -> Any:
    """float16 is read as it is and float32 written (``half_to_float``, aten/src/ATen/native/SoftMax.cpp)."""
    if dim is not None and x.dtype is torch.float16 and kwargs.get("dtype") is torch.float32:
        return aten._softmax(x, dim, True)
    return plain(x, dim, *args, **kwargs)


def dropout(plain: Any, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """``native_dropout``: a mask of one byte per element (aten/src/ATen/native/Dropout.cpp)."""
    if 0 < p < 1 and training and not inplace:
        return torch.native_dropout(x, p, True)[0]
    return plain(x, p, training, inplace)


def announced(plain: Any, listener: Listener, *args: Any, **kwargs: Any) -> Any:
    """A loss function that is called, and ``listener`` told."""
    listener.enter_loss()
    return plain(*args, **kwargs)
