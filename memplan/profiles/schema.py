"""What a profile file must hold.

pydantic judges the values, because here data come in that somebody else wrote. It takes longer to import
than an estimate takes, so only ``folder`` imports this module, and only on request. Amounts carry a unit
(``4096MiB``, ``192GB/s``), shares a percent sign, versions of hardware quotes (``"7.5"``).
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import (  # noqa: TID253  see above
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from memplan.domain.bytes import Bytes

BF16_SINCE = (8, 0)
FP8_SINCE = (8, 9)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not text")
    return value


def _amount(value: object) -> int:
    return int(Bytes.parse(_text(value)))


def _rate(value: object) -> int:
    text = _text(value)
    if not text.endswith("/s"):
        raise ValueError(f"{text!r} is not an amount per second")
    return int(Bytes.parse(text.removesuffix("/s")))


def _capability(value: object) -> list[int]:
    parts = _text(value).split(".")
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() and len(part) <= 3 for part in parts):
        raise ValueError(f"{value!r} is not a compute capability")
    return [int(part) for part in parts]


def _share(value: object) -> float:
    text = _text(value)
    number = text.removesuffix("%")
    if number == text or not number.isascii() or not number.isdecimal() or len(number) > 2:
        raise ValueError(f"{text!r} is not a share of the memory")
    return int(number) / 100


def _day(value: object) -> str:
    if type(value) is not datetime.date:
        raise ValueError(f"{value!r} is not a date")
    return value.isoformat()


Amount = Annotated[int, BeforeValidator(_amount), Field(gt=0, description="an amount such as 4096MiB")]
Rate = Annotated[int, BeforeValidator(_rate), Field(gt=0, description="an amount per second such as 192GB/s")]
Capability = Annotated[
    list[int], BeforeValidator(_capability), Field(description='a quoted version such as "7.5"')
]
Share = Annotated[float, BeforeValidator(_share), Field(description="a whole percentage such as 40%")]
Day = Annotated[str, BeforeValidator(_day), Field(description="a day such as 2026-01-31")]
Words = Annotated[str, Field(min_length=1, pattern=r"^\S(.*\S)?$", description="text")]
Name = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9.]*(-[a-z0-9.]+)*$", description="a name such as gtx1650")
]
HubId = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", description="a hub id such as owner/name")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$", description="the name of a tunable value")]
Harm = Annotated[Literal["exact", "numeric", "behaviour"], Field(description="exact, numeric or behaviour")]
Count = Annotated[int, Field(gt=0, le=2**53, description="a positive whole number")]
Tflops = Annotated[float, Field(gt=0, lt=1e6, description="a positive number of TFLOPS")]
BasisWord = Annotated[Literal["measured", "assumed"], Field(description="measured or assumed")]


class Entry(BaseModel):
    """What all share: no unknown fields, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class GpuEntry(Entry):
    """One model of GPU, under its name in ``gpus:``; ``memplan.domain.target.Gpu`` explains the fields."""

    title: Words
    aliases: list[Words] = Field(default=[], description="a list of names")
    compute_capability: Capability
    capacity: Amount
    usable: Amount
    usable_basis: BasisWord
    usable_source: Words
    bandwidth: Rate
    tflops: dict[Literal["fp32", "fp16", "bf16", "fp8"], Tflops]
    multiprocessors: Count | None = Field(default=None, description="a positive whole number")
    host_link: Rate | None = Field(default=None, description="an amount per second such as 31.5GB/s")
    peer_link: Rate | None = Field(default=None, description="an amount per second such as 300GB/s")
    context: Amount
    context_basis: BasisWord
    context_source: Words
    source: Words
    date: Day

    @model_validator(mode="after")
    def _hangs_together(self) -> GpuEntry:
        if self.usable > self.capacity:
            raise ValueError(f"usable {Bytes(self.usable)} is more than the capacity {Bytes(self.capacity)}")
        if self.context >= self.usable:
            raise ValueError(f"context {Bytes(self.context)} leaves no room in {Bytes(self.usable)}")
        due = {"fp32", "fp16"}
        due |= {"bf16"} if tuple(self.compute_capability) >= BF16_SINCE else set()
        due |= {"fp8"} if tuple(self.compute_capability) >= FP8_SINCE else set()
        if set(self.tflops) != due:
            listed, native = ", ".join(self.tflops), ", ".join(sorted(due))
            raise ValueError(f"tflops lists {listed}, but native to this hardware is {native}")
        return self


class ProfileEntry(Entry):
    """One named profile; ``memplan.profiles.NamedProfile`` explains the fields."""

    summary: Words
    margin: Share
    allow: Harm = "exact"
    rungs: list[dict[Variable, Count]] = Field(
        min_length=1, description="a list of mappings from tunable names to positive whole numbers"
    )


class GpuFile(Entry):
    """A file of ``profiles/gpus``."""

    gpus: dict[Name, GpuEntry]


class NamedFile(Entry):
    """A file of ``profiles/named``."""

    gpu: Name
    default: Words
    profiles: dict[Name, ProfileEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_exists(self) -> NamedFile:
        if self.default not in self.profiles:
            raise ValueError(f"the default profile {self.default!r} is not among {', '.join(self.profiles)}")
        return self
