"""Facts about GPUs and models of the hub, and the named profiles of a GPU, looked up by name.

The data are YAML files under ``profiles/``; ``store`` says how they are found, ``schema`` what they
must hold. A lookup opens three small generated JSON files and nothing else.
"""

from __future__ import annotations

import re
from types import MappingProxyType

from memplan.domain.bytes import Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError, Location, UnknownNameError
from memplan.domain.target import HOST, Gpu, Target, Throughput
from memplan.profiles.entries import AllowedHarm, ModelProfile, NamedProfile
from memplan.profiles.names import folded
from memplan.profiles.store import Record, records

__all__ = [
    "AllowedHarm",
    "ModelProfile",
    "NamedProfile",
    "find_gpu",
    "gpu",
    "gpus",
    "model",
    "model_ids",
    "model_named_like",
    "named",
    "named_profile",
    "target",
]

_AMOUNT_LIKE = r"[-+]?[0-9][0-9_.,]*(e[-+]?[0-9]+)?\s*([kmgtp]?i?b)?"
_TRAINABLE = (Dtype.FP32, Dtype.FP16, Dtype.BF16)


def gpu(name: str, *, location: Location | None = None) -> Gpu:
    """The GPU of that name, in any of its usual spellings.

    Raises:
        UnknownNameError: no GPU has that name; the nearest ones are offered.
    """
    found = find_gpu(name)
    if found is None:
        raise _unknown_gpu(name, location)
    return found


def find_gpu(name: str) -> Gpu | None:
    """Like ``gpu``, but None for a name nobody has, such as a device newer than these profiles."""
    known = records()
    key = known.gpu_keys.get(folded(name))
    return None if key is None else _gpu(key, known.gpus[key])


def gpus() -> tuple[Gpu, ...]:
    """Every GPU, by compute capability and within one as the files list them."""
    every = (_gpu(name, record) for name, record in records().gpus.items())
    return tuple(sorted(every, key=lambda gpu: gpu.compute_capability))


def model(hub_id: str) -> ModelProfile | None:
    """The model of that hub id, exactly spelled or else ignoring case; None when it is not known offline."""
    known = records()
    if hub_id in known.model_ids:
        return _model(hub_id, known.models)
    wanted = hub_id.lower()
    exact = next((known_id for known_id in known.model_ids if known_id.lower() == wanted), None)
    return None if exact is None else _model(exact, known.models)


def model_named_like(folder: str) -> str | None:
    """The hub id that the end of a path is (``checkpoints/OWNER/NAME``, ``/tmp/NAME``), ignoring case.

    A bare name counts where all models of that name have one architecture.
    """
    parts = [part for part in folder.replace("\\", "/").lower().split("/") if part]
    if not parts:
        return None
    known, owned = records().model_ids, "/".join(parts[-2:])
    found = [hub_id for hub_id in known if hub_id.lower().endswith(f"/{parts[-1]}")]
    exact = [hub_id for hub_id in found if hub_id.lower() == owned]
    if exact:
        return exact[0]
    return found[0] if len({known[hub_id] for hub_id in found}) == 1 else None


def model_ids() -> tuple[str, ...]:
    """Every hub id with a profile."""
    return tuple(records().model_ids)


def named(gpu_name: str) -> tuple[NamedProfile, ...]:
    """The named profiles of a GPU, most careful first; none when the GPU has no file under ``named/``.

    Raises:
        UnknownNameError: no GPU has that name.
    """
    name = gpu(gpu_name).name
    record = records().named.get(name)
    return () if record is None else tuple(_named(name, record))


def named_profile(gpu_name: str, profile: str | None = None) -> NamedProfile:
    """One named profile of a GPU, or its default one.

    Raises:
        UnknownNameError: the GPU or the profile does not exist.
    """
    profiles = named(gpu_name)
    for candidate in profiles:
        if candidate.default if profile is None else candidate.name == profile:
            return candidate
    if not profiles:
        having = ", ".join(records().named)
        raise UnknownNameError(f"{gpu_name} has no named profiles", hint=f"named profiles exist for {having}")
    names = [candidate.name for candidate in profiles]
    raise UnknownNameError.nearest(
        f"profile of {gpu_name}", profile or "", names, hint=f"its profiles are {', '.join(names)}"
    )


def target(
    text: str, *, ram: Bytes | None = None, disk: Bytes | None = None, location: Location | None = None
) -> Target:
    """What ``--gpu`` names: a GPU (``rtx3090``) or a bare amount of memory (``24GiB``).

    ``host`` with an amount of ``ram`` is a machine without a GPU, as plans for one say.

    Raises:
        FieldError: the text is an amount without a unit, with an unknown one, or of nothing.
        UnknownNameError: it is neither an amount nor a GPU; the nearest GPUs are offered.
    """
    if text == HOST and ram is not None:
        return Target.of_host(ram, disk=disk)
    found = find_gpu(text)
    if found is not None:
        return Target.of_gpu(found, ram=ram, disk=disk)
    if not re.fullmatch(_AMOUNT_LIKE, text.strip().lower()):
        raise _unknown_gpu(text, location)
    return Target.of_amount(_amount(text, location), ram=ram, disk=disk)


def _amount(text: str, location: Location | None) -> Bytes:
    expected = "the name of a GPU, or an amount of memory such as 24GiB"
    try:
        amount = Bytes.parse(text)
    except ValueError as error:
        raise FieldError(str(error), location=location, expected=expected) from error
    if amount == 0:
        raise FieldError(f"{text!r} is no memory at all", location=location, expected=expected)
    return amount


def _unknown_gpu(name: str, location: Location | None) -> UnknownNameError:
    hint = "memplan gpus lists all; an amount such as 24GiB is taken too"
    return UnknownNameError.nearest("GPU", name, records().gpus, location=location, hint=hint)


def _gpu(name: str, record: Record) -> Gpu:
    major, minor = record["compute_capability"]
    rates = Throughput(tuple(record["tflops"].items()))
    return Gpu(
        name=name,
        title=record["title"],
        aliases=tuple(record["aliases"]),
        capacity=Bytes(record["capacity"]),
        usable=Bytes(record["usable"]),
        usable_basis=record["usable_basis"],
        usable_source=record["usable_source"],
        compute_capability=(major, minor),
        dtypes=tuple(dtype for dtype in _TRAINABLE if dtype.label in rates),
        flash_attention_2=major >= 8,
        fp8="fp8" in rates,
        bandwidth=record["bandwidth"],
        tflops=rates,
        multiprocessors=record["multiprocessors"],
        host_link=record["host_link"],
        peer_link=record["peer_link"],
        context=Bytes(record["context"]),
        context_basis=record["context_basis"],
        context_source=record["context_source"],
        source=record["source"],
        date=record["date"],
    )


def _model(hub_id: str, models: dict[str, Record]) -> ModelProfile:
    architecture = records().model_ids[hub_id]
    record = models[architecture]
    return ModelProfile(
        id=hub_id,
        architecture=architecture,
        config=MappingProxyType(record["config"]),
        parameters=record["parameters"],
        source=record["source"],
        date=record["date"],
    )


def _named(gpu_name: str, record: Record) -> list[NamedProfile]:
    return [
        NamedProfile(
            name=name,
            gpu=gpu_name,
            summary=entry["summary"],
            margin=entry["margin"],
            allow=entry["allow"],
            rungs=tuple(MappingProxyType(rung) for rung in entry["rungs"]),
            default=name == record["default"],
        )
        for name, entry in record["profiles"].items()
    ]
