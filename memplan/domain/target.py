"""Where a run has to fit: a GPU model as its vendor and driver describe it, and a machine that holds one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

from memplan.domain.bytes import Bytes
from memplan.domain.calibration import Calibration
from memplan.domain.dtype import Dtype
from memplan.domain.overhead import Overhead
from memplan.domain.workload import Workload

Basis = Literal["measured", "assumed"]
"""Whether a figure was read off a real device or derived from the nearest one that was."""

HOST = "host"
"""The name of a machine without a GPU."""

ASSUMED_CAPABILITY = (8, 0)
"""Compute capability of a target given as a bare amount: the oldest with bf16 and FlashAttention-2."""

ASSUMED_CONTEXT = Bytes(745_000_000)
"""CUDA context of a target given as a bare amount: that of an RTX A6000 in training, the largest figure
published for a current build."""


@dataclass(frozen=True, slots=True)
class Throughput(Mapping[str, float]):
    """Dense TFLOPS (10**12 operations a second, no sparsity) by dtype label: ``gpu.tflops["bf16"]``."""

    rates: tuple[tuple[str, float], ...]

    def __getitem__(self, label: str) -> float:
        for known, rate in self.rates:
            if known == label:
                return rate
        raise KeyError(label)

    def __iter__(self) -> Iterator[str]:
        return iter([label for label, _ in self.rates])

    def __len__(self) -> int:
        return len(self.rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One model of GPU.

    ``capacity`` is the total the driver reports (NVML); ``usable`` is the smaller total that
    ``cudaMemGetInfo`` and PyTorch's out-of-memory message give on Linux, of which a process's
    ``context`` (CUDA context and the kernels PyTorch loads while training) takes a part before
    any tensor exists. ``bandwidth`` is in bytes a second, and so are the links, each way: ``host_link`` to
    the host's memory, ``peer_link`` to other GPUs where they have one of their own. ``dtypes`` are those
    trained in natively. ``None`` is a figure that nobody gave.
    """

    name: str
    title: str
    capacity: Bytes
    usable: Bytes
    usable_basis: Basis
    usable_source: str = ""
    compute_capability: tuple[int, int]
    dtypes: tuple[Dtype, ...]
    flash_attention_2: bool
    fp8: bool
    bandwidth: int
    tflops: Throughput
    multiprocessors: int | None = None
    host_link: int | None = None
    peer_link: int | None = None
    context: Bytes
    context_basis: Basis
    context_source: str = ""
    source: str
    date: str
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.usable <= self.capacity:
            raise ValueError(f"{self.name}: usable {self.usable} is not within the capacity {self.capacity}")
        if not 0 < self.context < self.usable:
            raise ValueError(f"{self.name}: context {self.context} does not leave room in {self.usable}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A GPU and its host. ``free`` is known only of a probed machine; ``ram`` and ``disk`` when given.

    ``notes`` say what else was found on a probed machine, such as who uses its GPU. ``calibration`` is what
    the context was taken from if runs were measured there, ``overhead`` what they say of host memory
    beside tensors. ``host_only`` is a machine without a GPU: its
    capacity is its RAM.
    """

    name: str
    gpu: Gpu | None = None
    capacity: Bytes
    usable: Bytes
    compute_capability: tuple[int, int] = ASSUMED_CAPABILITY
    context: Bytes = ASSUMED_CONTEXT
    context_basis: Basis = "assumed"
    ram: Bytes | None = None
    disk: Bytes | None = None
    free: Bytes | None = None
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None
    overhead: Overhead | None = None
    host_only: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.usable <= self.capacity:
            raise ValueError(f"{self.name}: usable {self.usable} is not within the capacity {self.capacity}")

    @classmethod
    def of_gpu(
        cls,
        gpu: Gpu,
        *,
        ram: Bytes | None = None,
        disk: Bytes | None = None,
        free: Bytes | None = None,
        notes: tuple[str, ...] = (),
    ) -> Self:
        """A machine with this GPU; ``free`` when the device was asked what is free now."""
        return cls(
            name=gpu.name,
            gpu=gpu,
            capacity=gpu.capacity,
            usable=gpu.usable,
            compute_capability=gpu.compute_capability,
            context=gpu.context,
            context_basis=gpu.context_basis,
            ram=ram,
            disk=disk,
            free=free,
            notes=notes,
        )

    @classmethod
    def of_amount(cls, amount: Bytes, *, ram: Bytes | None = None, disk: Bytes | None = None) -> Self:
        """A GPU known only by its memory, all of it usable; capability and context are assumed."""
        return cls(name=str(amount), capacity=amount, usable=amount, ram=ram, disk=disk)

    @classmethod
    def of_host(cls, ram: Bytes, *, disk: Bytes | None = None) -> Self:
        """A machine without a GPU, for what runs in host memory."""
        return cls(
            name=HOST,
            capacity=ram,
            usable=ram,
            context=Bytes(0),
            context_basis="measured",
            ram=ram,
            disk=disk,
            host_only=True,
        )

    def calibrated(self, found: Calibration) -> Target:
        """With the largest context of measured runs, in place of what is known of any such GPU."""
        return replace(
            self,
            context=found.most,
            context_basis="measured",
            calibration=found,
            notes=(*self.notes, found.note),
        )

    def burdened(self, found: Overhead) -> Target:
        """With the host memory that processes were seen to take beside tensors, not what is assumed."""
        return replace(self, overhead=found, notes=(*self.notes, found.note))

    def overhead_of(self, workload: Workload) -> Overhead | None:
        """What was seen of processes like this one: with a GPU, or without."""
        seen = self.overhead
        return None if seen is None or seen.on_gpu is workload.on_host else seen

    @property
    def limit(self) -> Bytes:
        """What a process may use, its context included: the free bytes if probed, else the usable ones."""
        return self.usable if self.free is None else self.free

    @property
    def option(self) -> str:
        """How a command is told of it."""
        here = "" if self.overhead is None else "auto:"
        return f"--ram {here}{self.ram}" if self.host_only else f"--gpu {self.name}"

    @property
    def unknown_ram(self) -> tuple[str, ...]:
        """What a change that moves bytes to the host asks for where it is not known how much RAM there is."""
        return ("free host RAM",) if self.ram is None else ()

    @property
    def flash_attention_2(self) -> bool:
        """Whether FlashAttention-2 runs here (compute capability 8.0 and above)."""
        return self.gpu.flash_attention_2 if self.gpu else self.compute_capability >= (8, 0)

    @property
    def fp8(self) -> bool | None:
        """Whether there are products in fp8; None where the compute capability is only assumed."""
        if self.gpu is not None:
            return self.gpu.fp8
        return None if self.compute_capability == ASSUMED_CAPABILITY else self.compute_capability >= (8, 9)

    def supports(self, dtype: Dtype) -> bool:
        """Whether the hardware trains in this dtype natively (bf16 needs compute capability 8.0)."""
        if self.gpu is not None and dtype in (Dtype.FP32, Dtype.FP16, Dtype.BF16):
            return dtype in self.gpu.dtypes
        return dtype is not Dtype.BF16 or self.compute_capability >= (8, 0)
