"""What a process takes before it does anything: the interpreter, the libraries, and CUDA's host side.

Figures are resident sizes. pytorch/pytorch issue #113326 gives them for PyTorch 2.2 with CUDA 11.8 on an RTX
3090: 322,040 kB after ``import torch``, 438,632 kB with a tensor on the GPU, 2,056,600 kB once
``torch.cuda.device_count`` was asked for as well, as any training loop does. The other reports agree with the
larger (1,973 MiB in #15209, 1,719 MiB in #12873, both before modules were loaded lazily).
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.overhead import Overhead
from memplan.estimate.host.share import Share, assumed, measured

_KILOBYTE = 1024

TORCH = 322_040 * _KILOBYTE
"""After ``import torch``, with CUDA."""

TRANSFORMERS = 125 * 2**20
"""``transformers`` with its Trainer beside torch: 352 MiB less 227 MiB (5.23, torch 2.13, Python 3.11)."""

CUDA = (2_056_600 - 322_040) * _KILOBYTE
CUDA_LEAST = (438_632 - 322_040) * _KILOBYTE
CUDA_MOST = 1973 * 2**20

WORKER = 263 * 2**20
"""Private memory of a DataLoader worker that was started anew, or that has touched all it was forked with."""
WORKER_LEAST = 9 * 2**20
"""Private memory of a worker just forked; both measured as the two above."""


def libraries(seen: Overhead | None = None) -> Iterator[Share]:
    """Interpreter and libraries, and the CUDA context's part in host memory, of one process.

    Other libraries beside these (datasets, DeepSpeed, bitsandbytes) are assumed to take as much again: of a
    GPU too whose runs were measured, since a smoke run loads none of them.
    """
    usual = TORCH + TRANSFORMERS
    if seen is not None:
        yield measured("libraries", seen.usual, seen.least, seen.most + (usual if seen.on_gpu else 0))
        return
    yield assumed("libraries", usual, TORCH, 2 * usual)
    yield assumed("cuda_runtime", CUDA, CUDA_LEAST, CUDA_MOST)


def workers(count: int) -> Iterator[Share]:
    """DataLoader workers of one process; a forked one copies what it writes to, reference counts too."""
    if count:
        yield assumed("loader_workers", count * WORKER, count * WORKER_LEAST, count * WORKER)
