"""``--gpu`` and ``--ram``, or the config's own target, as a Target; ``--ram`` alone of what runs on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, InputError, Location
from memplan.domain.target import Target

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading
    from memplan.probe import Device
    from memplan.probe.record import Entry

AUTO = "auto"
FREE = "auto:free"
"""For host memory: what this machine has free now, where ``auto`` is all that it has, and ``auto:4GiB`` this
machine as if it had so much."""

ANY = "any"
"""The name of every GPU there is."""

_WORTH_TELLING = 64 * 2**20
"""Bytes in use that are told of when no process is known: drivers differ by some MiB in what they keep."""


def chosen(
    asked: str | None, configured: str | None, ram: str | None = None, location: Location | None = None
) -> Target | None:
    """The target asked for, else the one the config names (at ``location``), else None.

    Raises:
        InputError: the GPU or the amount makes no sense, or ``--ram`` comes without a GPU.
    """
    name = asked if asked is not None else configured
    memory = _memory(ram)
    if name is None:
        if memory is not None:
            raise InputError("--ram needs a GPU beside it, as does --free-ram", hint="add --gpu NAME")
        return None
    if _is_auto(word := name.strip().lower()):
        return this_machine(memory, _number(word))
    if word == ANY:
        raise InputError("--gpu any is for memplan fit, and for one config", hint="name one GPU here")
    from memplan import profiles

    return profiles.target(name, ram=memory, location=None if asked is not None else location)


def free_of(ram: str | None, free: str | None) -> str | None:
    """The host memory to reckon with: what is free (``--free-ram``), else all there is (``--ram``).

    Either may be ``auto``, which is what this machine has.

    Raises:
        FieldError: one is not an amount with a unit, or more is free than there is.
    """
    if free is None:
        return ram
    there = FREE if free.strip().lower() == AUTO else free
    if ram is not None and amount(there, "--free-ram") > amount(ram, "--ram"):
        raise FieldError(f"--free-ram {free} is more than --ram {ram}", expected=f"at most {ram}")
    return f"{AUTO}:{free}" if _is_auto(ram) and not _is_auto(free) else there


def of_reading(reading: Reading, asked: str | None, ram: str | None = None) -> Target | None:
    """The target for a config that was read; errors point at the line where it names an unknown GPU."""
    name = asked if asked is not None else reading.gpu
    if reading.workload.on_host:
        if asked is not None and asked != "host" and not _is_auto(asked):
            raise InputError(
                f"{reading.path} runs in host memory, on no GPU: --gpu {asked} says nothing of it",
                hint="say how much memory there is: --ram 16GiB",
            )
        machine = this_host(asked, ram)
        return machine or _host(ram if ram is not None else reading.ram, name)
    if ram is None and name is not None and not _is_auto(name):
        # What a machine has is known better by itself than by a config.
        ram = reading.ram
    origin = reading.origins.get("target.gpu")
    return chosen(asked, reading.gpu, ram, origin.location if origin else None)


def _host(ram: str | None, name: str | None) -> Target | None:
    """Where a run that takes no GPU has to fit: so much RAM, or what this machine has free (auto)."""
    return this_host(name, None) if ram is None else Target.of_host(amount(ram, "--ram"))


def this_host(asked: str | None, ram: str | None) -> Target | None:
    """This machine without its GPU, if that is what ``--gpu`` or ``--ram`` ask for, else None.

    It has the RAM that is given, or what is free: with ``--ram auto`` all there is. Libraries take what runs
    of the same build of PyTorch were seen to take.

    Raises:
        FieldError: it is asked how much memory it has, and does not tell, or the amount makes no sense.
        MemplanError: the record of measured runs is broken.
    """
    if not (_is_auto(asked) or _is_auto(ram)):
        return None
    from memplan import probe
    from memplan.probe.overhead import installed_build, on_cpu

    memory = (probe.free_ram() or probe.ram()) if ram is None else amount(ram, "--ram")
    if memory is None:
        return None
    found = Target.of_host(memory, disk=probe.disk(Path.cwd()))
    runs = _recorded()
    overhead = on_cpu(runs, installed_build()) if runs else None
    return found if overhead is None else found.burdened(overhead)


def _is_auto(text: str | None) -> bool:
    """Whether a GPU or an amount is to be this machine's."""
    return text is not None and text.strip().lower().partition(":")[0] == AUTO


def _memory(ram: str | None) -> Bytes | None:
    return None if ram is None else amount(ram, "--ram")


def required(reading: Reading, asked: str | None, ram: str | None = None) -> Target:
    """Like ``of_reading``, for commands that cannot do without a target.

    Raises:
        InputError: neither the command line nor the config names one.
    """
    target = of_reading(reading, asked, ram)
    if target is None and reading.workload.on_host:
        raise InputError(f"{reading.path} runs in host memory and names none", hint="add --ram 16GiB")
    if target is None:
        raise InputError(
            f"{reading.path} names no GPU to fit",
            hint="add --gpu NAME; memplan gpus lists the names",
        )
    return target


def _number(word: str) -> int | None:
    """The number after ``auto:``, as nvidia-smi counts; None when there is none."""
    _, colon, text = word.partition(":")
    if not colon:
        return None
    if not (text.isascii() and text.isdigit()):
        raise FieldError(f"--gpu {word}: {text!r} is not the number of a GPU", expected="such as auto:1")
    return int(text)


def this_machine(ram: Bytes | None = None, number: int | None = None) -> Target:
    """A GPU of this machine, with what is free on it and of host memory now.

    Args:
        ram: host memory to reckon with instead.
        number: the GPU's, as nvidia-smi counts. Default: the first that ``CUDA_VISIBLE_DEVICES`` names,
            which is the one a training run would take; else the first.

    Raises:
        InputError: no NVIDIA GPU can be seen, or none of that number.
        MemplanError: the record of measured runs is broken.
    """
    from memplan import probe

    found = probe.devices()
    if not found:
        raise InputError("the NVIDIA driver sees no GPU on this machine", hint="name one with --gpu")
    if number is not None and number >= len(found):
        known = ", ".join(f"{AUTO}:{device.index} ({device.name})" for device in found)
        raise InputError(f"this machine has no GPU {number}", hint=f"it has {known}")
    memory = ram if ram is not None else probe.free_ram() or probe.ram()
    device = _visible(found) if number is None else found[number]
    return _calibrated(of_device(device, memory, probe.disk(Path.cwd())), device)


def _calibrated(target: Target, device: Device) -> Target:
    """With the CUDA context and the host memory of runs that were measured on this GPU, if there are any."""
    runs = [run for run in _recorded() if run.device == device.name]
    if not runs:
        return target
    # Asked only now: most machines have no record, and none of their estimates waits for this.
    from memplan import probe
    from memplan.probe import calibration, overhead

    driver = probe.driver()
    context = calibration.of_runs(runs, driver, calibration.installed_torch(), target.usable)
    beside = overhead.on_gpu(runs, device.name, driver, overhead.installed_build())
    target = target if context is None else target.calibrated(context)
    return target if beside is None else target.burdened(beside)


def _recorded() -> tuple[Entry, ...]:
    """The runs that were measured on this machine.

    Raises:
        MemplanError: their record is broken.
    """
    from memplan.probe.record import entries, usual_path

    path = usual_path()
    return () if path is None else entries(path)


def _visible(found: tuple[Device, ...]) -> Device:
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    names = ((device, (str(device.index), device.uuid)) for device in found)
    return next((device for device, own in names if first in own), found[0])


def of_device(device: Device, ram: Bytes | None, disk: Bytes | None) -> Target:
    """A probed device as a target: with its profile's facts where there is one."""
    from memplan.profiles import find_gpu

    gpu = find_gpu(device.name)
    notes = tuple(_users(device, gpu.usable if gpu is not None else device.capacity))
    if gpu is not None:
        return Target.of_gpu(gpu, ram=ram, disk=disk, free=min(device.free, gpu.usable), notes=notes)
    return Target(
        name=device.name,
        capacity=device.capacity,
        usable=device.capacity,
        compute_capability=device.compute_capability,
        ram=ram,
        disk=disk,
        free=device.free,
        notes=notes,
    )


def _users(device: Device, usable: Bytes) -> Iterator[str]:
    """Who else uses a GPU: every process by name, or that somebody does."""
    where = f"gpu {device.index}"
    for holder in device.holders:
        who = f"{holder.name or 'a process'} (pid {holder.pid})"
        if holder.used is None:
            yield f"{where} is used by {who}; the driver does not say how much of it"
        else:
            yield f"{holder.used.rounded()} of {where} is used by {who}"
    taken = Bytes(max(0, usable - device.free))
    if not device.holders and taken >= _WORTH_TELLING:
        yield f"{taken.rounded()} of {where} is in use; the driver does not say by whom"


def amount(text: str, option: str) -> Bytes:
    """An amount of memory given on the command line; this machine's with ``auto`` and ``auto:free``.

    Raises:
        FieldError: it is not an amount with a unit, or of nothing, or the machine does not tell.
    """
    if (word := text.strip().lower()) in (AUTO, FREE):
        return _of_this_machine(option, free=word == FREE)
    try:
        found = Bytes.parse(text.strip()[len(AUTO) + 1 :] if _is_auto(text) else text)
    except ValueError as error:
        raise FieldError(f"{option}: {error}", expected="an amount such as 32GiB") from None
    if not found:
        raise FieldError(f"{option} {text}: that is no memory at all", expected="an amount such as 32GiB")
    return found


def _of_this_machine(option: str, *, free: bool) -> Bytes:
    from memplan import probe

    found = (probe.free_ram() if free else None) or probe.ram()
    if found is None:
        raise FieldError(
            f"{option} auto: this machine does not tell how much memory it has",
            expected="an amount such as 32GiB",
        )
    return found
