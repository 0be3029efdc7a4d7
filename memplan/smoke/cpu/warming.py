"""A few numbers through what a workload will use: what the libraries load at first is none of the model's."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from memplan.domain.workload import Workload
from memplan.smoke.cpu.conditions import like_a_gpu
from memplan.smoke.cpu.surroundings import use_libraries
from memplan.smoke.cuda import TORCH
from memplan.smoke.quantized import sample

SIDE = 64


def warm(workload: Workload) -> None:
    """PyTorch in fp32, and where a workload has it in half precision, autocast and bitsandbytes' layers."""
    use_libraries()
    if not workload.compute.is_half:
        return
    with like_a_gpu(workload):
        _use(torch.nn.Linear(SIDE, SIDE, dtype=TORCH[workload.compute]), TORCH[workload.compute])
        if workload.precision.autocast is not None:
            with torch.autocast("cpu", dtype=TORCH[workload.compute]):
                _use(torch.nn.Linear(SIDE, SIDE), torch.float32)
        if workload.quantization is not None:
            _use(sample(workload.quantization, SIDE), TORCH[workload.compute])


def _use(layer: Any, dtype: Any) -> None:
    """The layer, attention and a loss, forward and backward."""
    for _ in range(2):
        x = layer(torch.ones(2, SIDE, SIDE, dtype=dtype, requires_grad=True))
        heads = x.view(2, SIDE, 4, SIDE // 4).transpose(1, 2)
        x = functional.scaled_dot_product_attention(heads, heads, heads).reshape(-1, SIDE)
        loss = functional.cross_entropy(x.float(), torch.ones(len(x), dtype=torch.int64))
        torch.autograd.backward(loss)
