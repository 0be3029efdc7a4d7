"""AdamW and Lion of bitsandbytes: states of 8 or 32 bits, on the GPU or paged, and no temporaries.

Source: ``Optimizer2State``, ``Optimizer1State`` and ``get_state_buffer`` in bitsandbytes
bitsandbytes/optim/optimizer.py (0.50): 8 bits only for tensors of at least 4,096 elements, with an fp32
scale for each block of 256; paged only for tensors of at least 100,000 elements.
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Optimizer
from memplan.simulator.autograd import Leaf, each
from memplan.simulator.kernels import HOST
from memplan.simulator.optimizers import host_bitsandbytes
from memplan.simulator.optimizers.states import States

SMALLEST_8BIT = 4096
SMALLEST_PAGED = 100_000
BLOCK = 256


def update(optimizer: Optimizer, states: States, leaves: list[Leaf]) -> None:
    """Make the states of each parameter that has none; a GPU's update itself runs in place."""
    moments = 1 if "lion" in optimizer.name else 2
    on_host = states.tape.capability == HOST
    for leaf in each(leaves):
        size = prod(leaf.shape)
        small = "8bit" in optimizer.name and size >= SMALLEST_8BIT
        paged = optimizer.name.startswith("paged") and size >= SMALLEST_PAGED and not on_host
        dtype = Dtype.UINT8 if small else Dtype.FP32
        if small:
            for index in range(moments):
                states.keep(0, "qmap", f"qmap{index + 1}", (256,), Dtype.FP32)
        for index in range(moments):
            if paged:
                states.page(id(leaf), f"state{index + 1}", size * dtype.itemsize)
            else:
                states.keep(id(leaf), leaf.scope, f"state{index + 1}", leaf.shape, dtype)
        if small:
            for index in range(moments):
                scales = (-(-size // BLOCK),)
                states.keep(id(leaf), leaf.scope, f"absmax{index + 1}", scales, Dtype.FP32)
        if on_host:
            host_bitsandbytes.update(states.tape, leaf, small=small, moments=moments)
