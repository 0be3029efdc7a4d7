"""A smaller card on a larger one: its memory as a limit, its attention kernels, its libraries' workspaces.

What PyTorch may reserve is the card's limit without its CUDA context, which lies outside PyTorch's allocator
here as there. What the card's hardware lacks is refused, since this one has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from memplan.domain.bytes import Bytes
from memplan.domain.errors import InputError
from memplan.domain.hardware import lacking
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Workload
from memplan.profiles import find_gpu
from memplan.simulator.tensor import cublas_workspace
from memplan.smoke.gpu import kernels

WORKSPACES = {32 * 2**20: ":4096:8", (2 * 4096 + 8 * 16) * 1024: ":4096:2:16:8"}
"""``CUBLAS_WORKSPACE_CONFIG`` for a workspace of that size: count and KiB of its buffers."""

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """How a GPU is made to behave.

    ``allowed`` is what PyTorch may reserve, as ``fraction`` of the real total; None leaves both as they are.
    ``room`` is what it finds in any case.
    ``predicted`` and ``capability`` are what to simulate for the run to be seen here: the card's choice of
    kernels, with the temporaries they have on the real one. ``kernels`` are those that attention has, None
    leaves PyTorch its choice. ``environment`` is set before the first matrix product. ``emulates`` says that
    it is another card than the real one.
    """

    target: Target
    predicted: Workload
    capability: tuple[int, int]
    emulates: bool
    room: Bytes
    allowed: Bytes | None = None
    fraction: float | None = None
    kernels: tuple[Attention, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def here(name: str, capability: tuple[int, int], total: Bytes) -> Target:
    """The real GPU as a target: with its profile's facts where there is one."""
    gpu = find_gpu(name)
    if gpu is not None:
        return Target.of_gpu(gpu)
    return Target(name=name, capacity=total, usable=total, compute_capability=capability)


def card(
    workload: Workload,
    target: Target | None,
    real: Target,
    total: Bytes,
    free: Bytes,
    budget: Bytes | None = None,
) -> Card:
    """The card to run as: the target's, the real one, or either with a ``budget`` for what PyTorch reserves.

    Args:
        real: the GPU that runs.
        total: its memory as PyTorch counts it, of which a fraction is set.
        free: what is left of it now.

    Raises:
        InputError: the target lacks what the workload asks for, or the real GPU cannot stand for it.
    """
    wanted = target or real
    emulates = wanted.name != real.name
    if target is not None:
        _refuse(workload, target, real, emulates=emulates)
        _check_room(target, real, total, free, emulates=emulates)
    capability = _capability(wanted, real)
    allowed = min(_limits(workload, wanted, budget, emulates=emulates), default=None)
    room = min(free, Bytes(wanted.limit - wanted.context) if allowed is None else allowed)
    chosen = kernels.chosen(workload, capability)
    found = Card(
        target=wanted,
        **kernels.simulated(workload, capability, real, chosen),
        emulates=emulates,
        allowed=allowed,
        room=room,
        fraction=None if allowed is None else fraction(allowed, total),
        kernels=kernels.available(workload, capability, chosen, emulates=emulates),
        environment=tuple(_environment(capability, real)),
    )
    return replace(found, notes=tuple(_notes(workload, found, real, total)))


def fraction(allowed: int, total: int) -> float:
    """The largest share of ``total`` whose bytes, cut to a whole number, are at most ``allowed``.

    ``setMemoryFraction`` of c10/cuda/CUDACachingAllocator.cpp multiplies doubles and cuts off; in newer
    releases a fraction of 1 is no limit.
    """
    share = min(allowed / total, 1.0)
    while int(share * total) > allowed:
        share -= 2**-53
    return share


def _refuse(workload: Workload, target: Target, real: Target, *, emulates: bool) -> None:
    _lacks(workload, target, f"{target.name} has no", "so the run would not be one of that card")
    if not emulates:
        return
    _lacks(workload, real, f"{real.name} here has no", f"so it cannot stand for {target.name}")
    fused = Attention.FLASH_ATTENTION_2
    theirs, ours = (kernels.chosen(workload, _capability(item, real)) for item in (target, real))
    if fused in theirs and fused not in ours:
        raise InputError(
            f"{target.name} takes PyTorch's flash kernel for this run, which {real.name} here cannot",
            hint="run it as this card with --gpu auto, or use --device fake",
        )


def _check_room(target: Target, real: Target, total: Bytes, free: Bytes, *, emulates: bool) -> None:
    room = Bytes(target.limit - target.context)
    if emulates and room > free:
        has = f"has {total.rounded()}" if room > total else f"has {free.rounded()} free"
        raise InputError(
            f"{real.name} here {has}, less than the {room.rounded()} that {target.name} leaves PyTorch",
            hint="run it as this card with --gpu auto, or use --device fake",
        )


def _lacks(workload: Workload, card: Target, before: str, after: str) -> None:
    """Refuse what a card's hardware has not got."""
    lacks = lacking(workload, card)
    if lacks:
        told = ", ".join(f"{lack.what} ({lack.fields[0]})" for lack in lacks)
        hint = f"memplan fit --gpu {card.name} says what to use there" if card.gpu is not None else None
        raise InputError(f"{before} {told}, {after}", hint=hint or "use --device fake")


def _capability(wanted: Target, real: Target) -> tuple[int, int]:
    """A card's compute capability; an amount of memory is one of the real card's kind."""
    return wanted.compute_capability if wanted.gpu is not None else real.compute_capability


def _limits(workload: Workload, wanted: Target, budget: Bytes | None, *, emulates: bool) -> Iterator[Bytes]:
    """Everything that says how much PyTorch may reserve."""
    if budget is not None:
        yield budget
    if emulates:
        yield Bytes(wanted.limit - wanted.context)
    own = workload.allocator.memory_fraction
    if own is not None:
        yield Bytes(int(own * wanted.usable))


def _environment(capability: tuple[int, int], real: Target) -> Iterator[tuple[str, str]]:
    wanted, found = cublas_workspace(capability), cublas_workspace(real.compute_capability)
    if wanted != found:
        yield VARIABLE, WORKSPACES[wanted]


def _notes(workload: Workload, found: Card, real: Target, total: Bytes) -> Iterator[str]:
    if found.emulates:
        yield f"{found.target.name} emulated on {real.name}"
    if found.allowed is not None:
        of = f"{total.rounded()} here"
        yield f"PyTorch may reserve {found.allowed.rounded()} of {of}, by set_per_process_memory_fraction"
        if workload.allocator.garbage_collection_threshold and workload.allocator.memory_fraction is None:
            yield "garbage_collection_threshold acts only because a fraction is set; elsewhere it would not"
    if found.kernels is None and kernels.prefers_cudnn(workload, real):
        yield (
            "PyTorch may take cuDNN's attention kernel here, which is not simulated;"
            f" {kernels.PLAIN}=1 keeps it off"
        )
    if found.kernels is not None:
        yield f"attention kernels: {', '.join(str(kernel) for kernel in found.kernels)}"
    if found.environment:
        told = ", ".join(f"{name}={value}" for name, value in found.environment)
        yield f"{told}, as large as on {found.target.name}"
