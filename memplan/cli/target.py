"""``--gpu`` and ``--ram``, or the config's own target, as a Target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memplan.domain.bytes import Bytes
from memplan.domain.errors import FieldError, InputError, Location
from memplan.domain.target import Target

if TYPE_CHECKING:
    from memplan.dialects.reading import Reading
    from memplan.probe import Device

AUTO = "auto"


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
            raise InputError("--ram needs a GPU beside it", hint="add --gpu NAME")
        return None
    if name.strip().lower() == AUTO:
        return this_machine(memory)
    from memplan import profiles

    return profiles.target(name, ram=memory, location=None if asked is not None else location)


def of_reading(reading: Reading, asked: str | None, ram: str | None = None) -> Target | None:
    """The target for a config that was read; errors point at the line where it names an unknown GPU."""
    origin = reading.origins.get("target.gpu")
    return chosen(asked, reading.gpu, ram, origin.location if origin else None)


def required(reading: Reading, asked: str | None, ram: str | None = None) -> Target:
    """Like ``of_reading``, for commands that cannot do without a target.

    Raises:
        InputError: neither the command line nor the config names one.
    """
    target = of_reading(reading, asked, ram)
    if target is None:
        raise InputError(
            f"{reading.path} names no GPU to fit",
            hint="add --gpu NAME; memplan gpus lists the names",
        )
    return target


def this_machine(ram: Bytes | None = None) -> Target:
    """The first GPU of this machine, with what is free on it now.

    Raises:
        InputError: no NVIDIA GPU can be seen.
    """
    from memplan import probe

    found = probe.devices()
    if not found:
        raise InputError("the NVIDIA driver sees no GPU on this machine", hint="name one with --gpu")
    memory = ram if ram is not None else probe.ram()
    return of_device(found[0], memory, probe.disk(Path.cwd()))


def of_device(device: Device, ram: Bytes | None, disk: Bytes | None) -> Target:
    """A probed device as a target: with its profile's facts where there is one."""
    from memplan.profiles import find_gpu

    gpu = find_gpu(device.name)
    if gpu is not None:
        return Target.of_gpu(gpu, ram=ram, disk=disk, free=min(device.free, gpu.usable))
    return Target(
        name=device.name,
        capacity=device.capacity,
        usable=device.capacity,
        compute_capability=device.compute_capability,
        ram=ram,
        disk=disk,
        free=device.free,
    )


def amount(text: str, option: str) -> Bytes:
    """An amount of memory given on the command line.

    Raises:
        FieldError: it is not an amount with a unit.
    """
    try:
        return Bytes.parse(text)
    except ValueError as error:
        raise FieldError(f"{option}: {error}", expected="an amount such as 32GiB") from None
