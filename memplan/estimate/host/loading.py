"""Host memory while weights are loaded, of one process.

Measured with transformers 5.23, safetensors 0.8 and torch 2.13 on a Llama of 419 MiB in bf16, as anonymous
memory above that of the imports: mapped files 2 MiB (their pages are the page cache's), the same converted to
fp32 840 MiB, ``torch.load`` 419 MiB, a model initialised, cast, and given a state dict 900 MiB.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.estimate.host.share import Share, modelled

NAME = "weights_in_loading"

THREADS = 4
"""Tensors that are read at a time (``GLOBAL_WORKERS`` in transformers' core_model_loading.py)."""


def loading(workload: Workload, shape: Architecture) -> Iterator[Share]:
    """Anonymous memory at the peak of loading."""
    yield modelled(NAME, _needed(workload, shape))


def mapped(workload: Workload, shape: Architecture) -> int:
    """Bytes of files that are mapped: page cache, which all processes share and the kernel takes back."""
    if workload.host.loading not in ("mapped", "direct"):
        return 0
    return shape.parameters * published(workload).itemsize


def published(workload: Workload) -> Dtype:
    """The dtype of the files."""
    return workload.host.published or workload.precision.params


def _needed(workload: Workload, shape: Architecture) -> int:
    dtype, files = workload.precision.params, published(workload)
    one = max((group.parameters // group.copies for group in shape.groups), default=0)
    converted = files is not dtype
    way = workload.host.loading
    if way == "direct" or (way == "mapped" and workload.quantization is not None):
        threads = 1 if workload.framework.transformers_before(5, 0) else THREADS
        return threads * one * dtype.itemsize if converted else 0
    if way == "mapped":
        return shape.parameters * dtype.itemsize if converted else 0
    made = shape.parameters * Dtype.FP32.itemsize
    if dtype is not Dtype.FP32:
        made += one * dtype.itemsize
    if way == "initialised":
        return made
    return max(made, shape.parameters * (dtype.itemsize + files.itemsize))
