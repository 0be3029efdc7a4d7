"""How fast a target computes and moves bytes, as its vendor states it: dense rates and full bandwidth.

What kernels reach of that is left out, except where it is published and differs between kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.dtype import Dtype
from memplan.domain.target import Target

NOMINAL_FLOPS = 1e14
"""Operations a second, see below."""

NOMINAL_BANDWIDTH = 1e12
"""Rates of a target known only by its memory: 100 FLOPs per byte, between an RTX 3090 (76) and an A100
(153) in bf16. Only their ratio matters."""

NOMINAL_LINK = 15.75e9
"""Bytes a second each way over sixteen lanes of PCIe 3.0 (PCI-SIG: 8 GT/s, 128b/130b), if nobody gave one."""

DRIVE = 3.94e9
"""Bytes a second to and from an NVMe drive, which has four lanes: those of PCIe 3.0."""

KERNEL_GAP = 4e-6
"""Seconds lost between two kernels launched one by one. NVIDIA's "Getting Started with CUDA Graphs" (2019)
finds 1 µs when launches overlap execution and 7 µs when each is waited for; the middle, as an order of
magnitude that ranks micro-batches which are equal otherwise."""

HOPPER, CONSUMER_BLACKWELL = (9, 0), (12, 0)
FLASH = 0.6
"""What FlashAttention-2 reaches of the tensor cores' rate: 50 to 73 % on an A100 (Dao, arXiv:2307.08691,
abstract)."""

FLASH_ON_HOPPER = 0.35
"""The same on an H100 (Shah et al., arXiv:2407.08608, abstract)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rates:
    """Operations and bytes a second; ``multiprocessors`` 0 leaves out how products are cut into tiles."""

    flops: dict[Dtype, float]
    bandwidth: float
    host_link: float
    peer_link: float
    own_link: bool
    multiprocessors: int
    flash: float
    limit: int

    def of(self, dtype: Dtype) -> float:
        """The rate of matrix products in a dtype; that of fp32 where the hardware has none of its own."""
        return self.flops.get(dtype) or self.flops[Dtype.FP32]

    def attention(self, dtype: Dtype) -> float:
        """The rate of a fused attention kernel: in fp32 it runs where other fp32 products do."""
        return self.of(dtype) * (self.flash if dtype.is_half else 1.0)


_NOMINAL = Rates(
    flops={Dtype.FP32: NOMINAL_FLOPS},
    bandwidth=NOMINAL_BANDWIDTH,
    host_link=NOMINAL_LINK,
    peer_link=NOMINAL_LINK,
    own_link=False,
    multiprocessors=0,
    flash=FLASH,
    limit=0,
)

_KNOWN: dict[int, tuple[Target, Rates]] = {}


def rates_of(target: Target | None) -> Rates:
    """The rates of a target, made once for each."""
    if target is None:
        return _NOMINAL
    found = _KNOWN.get(id(target))
    if found is None or found[0] is not target:
        if len(_KNOWN) >= 256:
            _KNOWN.clear()
        _KNOWN[id(target)] = found = (target, _made(target))
    return found[1]


def _made(target: Target) -> Rates:
    gpu = target.gpu
    hopper = HOPPER <= target.compute_capability < CONSUMER_BLACKWELL
    host = float(gpu.host_link or NOMINAL_LINK) if gpu else NOMINAL_LINK
    stated = {} if gpu is None else {dtype: 1e12 * gpu.tflops.get(dtype.label, 0.0) for dtype in Dtype}
    return Rates(
        flops={Dtype.FP32: NOMINAL_FLOPS, **{dtype: rate for dtype, rate in stated.items() if rate}},
        bandwidth=float(gpu.bandwidth) if gpu else NOMINAL_BANDWIDTH,
        host_link=host,
        peer_link=float(gpu.peer_link or host) if gpu else host,
        own_link=bool(gpu and gpu.peer_link),
        multiprocessors=(gpu.multiprocessors or 0) if gpu else 0,
        flash=FLASH_ON_HOPPER if hopper else FLASH,
        limit=target.limit,
    )
