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

AUTO = "auto"
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
    memory = None if ram is None else amount(ram, "--ram")
    if name is None:
        if memory is not None:
            raise InputError("--ram needs a GPU beside it, as does --free-ram", hint="add --gpu NAME")
        return None
    if (word := name.strip().lower()).partition(":")[0] == AUTO:
        return this_machine(memory, _number(word))
    if word == ANY:
        raise InputError("--gpu any is for memplan fit, and for one config", hint="name one GPU here")
    from memplan import profiles

    return profiles.target(name, ram=memory, location=None if asked is not None else location)


def free_of(ram: str | None, free: str | None) -> str | None:
    """The host memory to reckon with: what is free (``--free-ram``), else all there is (``--ram``).

    Raises:
        FieldError: one is not an amount with a unit, or more is free than there is.
    """
    if free is None:
        return ram
    if ram is not None and amount(free, "--free-ram") > amount(ram, "--ram"):
        raise FieldError(f"--free-ram {free} is more than --ram {ram}", expected=f"at most {ram}")
    return free


def of_reading(reading: Reading, asked: str | None, ram: str | None = None) -> Target | None:
    """The target for a config that was read; errors point at the line where it names an unknown GPU."""
    name = asked if asked is not None else reading.gpu
    if reading.workload.on_host:
        return _host(ram if ram is not None else reading.ram, name)
    if ram is None and name is not None and name.strip().lower().partition(":")[0] != AUTO:
        # What a machine has is known better by itself than by a config.
        ram = reading.ram
    origin = reading.origins.get("target.gpu")
    return chosen(asked, reading.gpu, ram, origin.location if origin else None)


def _host(ram: str | None, name: str | None) -> Target | None:
    """Where a run that takes no GPU has to fit: so much RAM, or what this machine has free (auto)."""
    if ram is not None:
        return Target.of_host(amount(ram, "--ram"))
    if name is None or name.strip().lower().partition(":")[0] != AUTO:
        return None
    from memplan import probe

    memory = probe.free_ram() or probe.ram()
    return None if memory is None else Target.of_host(memory, disk=probe.disk(Path.cwd()))


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
    """With the CUDA context of runs that were measured on this GPU, if there are any."""
    from memplan.probe.calibration import calibration
    from memplan.probe.record import usual_path

    found = calibration(usual_path(), device.name, target.usable)
    return target if found is None else target.calibrated(found)


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
    """An amount of memory given on the command line.

    Raises:
        FieldError: it is not an amount with a unit.
    """
    try:
        return Bytes.parse(text)
    except ValueError as error:
        raise FieldError(f"{option}: {error}", expected="an amount such as 32GiB") from None
