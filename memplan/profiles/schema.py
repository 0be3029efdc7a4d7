"""What a profile file must hold, and its turning into records.

pydantic judges the values, because here data come in that somebody else wrote; every complaint is
turned into a ``ProfileError`` at the line of the field. Amounts carry a unit (``4096MiB``,
``192GB/s``), shares a percent sign, versions of hardware quotes (``"7.5"``).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from memplan.domain.bytes import Bytes
from memplan.domain.errors import ProfileError
from memplan.profiles.names import folded
from memplan.profiles.source import Keys, Source, read
from memplan.profiles.store import Record, Records

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


Amount = Annotated[
    int, BeforeValidator(_amount), Field(gt=0, description="an amount with a unit, such as 4096MiB")
]
Rate = Annotated[
    int, BeforeValidator(_rate), Field(gt=0, description="an amount per second, such as 192GB/s")
]
Capability = Annotated[
    list[int], BeforeValidator(_capability), Field(description='a quoted version such as "7.5"')
]
Share = Annotated[
    float, BeforeValidator(_share), Field(description="a whole percentage below 100, such as 40%")
]
Day = Annotated[str, BeforeValidator(_day), Field(description="a day, such as 2026-01-31")]
Words = Annotated[str, Field(min_length=1, pattern=r"^\S(.*\S)?$", description="text")]
Name = Annotated[
    str, Field(pattern=r"^[a-z0-9][a-z0-9.]*(-[a-z0-9.]+)*$", description="a name in small letters, such as gtx1650")
]
Count = Annotated[int, Field(gt=0, le=2**53, description="a positive whole number")]
Tflops = Annotated[float, Field(gt=0, lt=1e6, strict=False, description="a positive number of TFLOPS")]
BasisWord = Annotated[Literal["measured", "assumed"], Field(description="measured or assumed")]


class _Entry(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, protected_namespaces=(), hide_input_in_errors=True
    )


class GpuEntry(_Entry):
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
            raise ValueError(
                f"tflops lists {', '.join(self.tflops)}, but this hardware has {', '.join(sorted(due))}"
            )
        return self


class ConfigEntry(_Entry):
    """The fields of a ``config.json`` that decide memory, as the model's own file has them."""

    model_type: Words
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    vocab_size: Count
    tie_word_embeddings: bool = False
    max_position_embeddings: Count
    sliding_window: Count | None = None
    use_sliding_window: bool | None = None
    max_window_layers: Count | None = None
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    hidden_act: Words | None = None
    torch_dtype: Literal["float32", "float16", "bfloat16"]


class ModelEntry(_Entry):
    """One architecture and the hub ids that have it."""

    ids: list[
        Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$", description="a hub id such as owner/name")]
    ] = Field(min_length=1, description="a list of hub ids")
    parameters: Count
    source: Words
    date: Day
    config: ConfigEntry


class ProfileEntry(_Entry):
    """One named profile; ``memplan.profiles.NamedProfile`` explains the fields."""

    summary: Words
    margin: Share
    allow: Literal["exact", "numeric", "behaviour"] = Field(
        default="exact", description="exact, numeric or behaviour"
    )
    rungs: list[dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], Count]] = Field(
        min_length=1, description="a list of mappings from a tunable name to a positive whole number"
    )


class GpuFile(_Entry):
    """A file of ``profiles/gpus``."""

    gpus: dict[Name, GpuEntry]


class ModelFile(_Entry):
    """A file of ``profiles/models``."""

    architectures: dict[Name, ModelEntry]


class NamedFile(_Entry):
    """A file of ``profiles/named``."""

    gpu: Name
    default: Words
    profiles: dict[Name, ProfileEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_exists(self) -> NamedFile:
        if self.default not in self.profiles:
            raise ValueError(f"the default profile {self.default!r} is not among {', '.join(self.profiles)}")
        return self


def read_folder(folder: Path) -> Records:
    """Read and check every profile file under a folder with ``gpus/``, ``models/`` and ``named/``.

    Raises:
        FileAccessError: a file cannot be read.
        ProfileError: a field is missing, unknown or wrong, or a name is given twice.
    """
    records = Records()
    _each(folder / "gpus", lambda source: _add_gpus(source, records))
    _each(folder / "models", lambda source: _add_models(source, records))
    _each(folder / "named", lambda source: _add_named(source, records))
    return records


def _each(folder: Path, add: Callable[[Source], None]) -> None:
    for path in sorted(folder.glob("*.yaml")):
        add(read(path))


def _add_gpus(source: Source, records: Records) -> None:
    for name, record in _validated(source, GpuFile)["gpus"].items():
        if name in records.gpus:
            raise source.error("another file has a GPU of this name", ("gpus", name), at_key=True)
        records.gpus[name] = record
        for spelling in dict.fromkeys(folded(text) for text in (name, record["title"], *record["aliases"])):
            owner = records.gpu_keys.setdefault(spelling, name)
            if owner != name:
                raise source.error(f"{spelling!r} already leads to {owner}", ("gpus", name, "aliases"))


def _add_models(source: Source, records: Records) -> None:
    for name, record in _validated(source, ModelFile)["architectures"].items():
        if name in records.models:
            raise source.error(
                "another file has an architecture of this name", ("architectures", name), at_key=True
            )
        for place, hub_id in enumerate(record.pop("ids")):
            if records.model_ids.setdefault(hub_id, name) != name:
                where: Keys = ("architectures", name, "ids", place)
                raise source.error(
                    f"{hub_id} already has the architecture {records.model_ids[hub_id]}", where
                )
        record["config"] = {key: value for key, value in record["config"].items() if value is not None}
        records.models[name] = record


def _add_named(source: Source, records: Records) -> None:
    record = _validated(source, NamedFile)
    name = record.pop("gpu")
    if name in records.named:
        raise source.error(f"another file has named profiles for {name}", ("gpu",))
    records.named[name] = record


def _validated(source: Source, model: type[_Entry]) -> Record:
    try:
        return model.model_validate(source.values).model_dump(mode="json")
    except ValidationError as error:
        first = min(error.errors(include_url=False), key=lambda problem: len(problem["loc"]) == 0)
        raise _located(source, model, first) from error


def _located(source: Source, model: type[_Entry], problem: Any) -> ProfileError:
    keys: Keys = tuple(part for part in problem["loc"] if part != "[key]")
    kind = problem["type"]
    expected = _expected(model, keys)
    if kind == "missing":
        return source.error("this field is missing", keys, expected=expected)
    if kind == "extra_forbidden":
        return source.error("this field is not known", keys, expected=_fields(model, keys[:-1]), at_key=True)
    message = problem["msg"].removeprefix("Value error, ")
    return source.error(message, keys, expected=expected, at_key="[key]" in problem["loc"])


def _expected(model: type[_Entry], keys: Keys) -> str | None:
    """The description of the field that the keys lead to."""
    schema = _schema_at(model, keys)
    description = schema.get("description") if schema and "properties" not in schema else None
    return None if description is None else str(description)


def _fields(model: type[_Entry], keys: Keys) -> str:
    schema = _schema_at(model, keys) or {}
    return f"one of {', '.join(schema.get('properties', {}))}"


def _schema_at(model: type[_Entry], keys: Keys) -> dict[str, Any] | None:
    whole = TypeAdapter(model).json_schema()
    schema = whole
    for key in keys:
        schema = _resolved(schema, whole)
        if isinstance(key, int):
            schema = schema.get("items", {})
        elif key in schema.get("properties", {}):
            schema = schema["properties"][key]
        else:
            schema = schema.get("additionalProperties") or next(
                iter(schema.get("patternProperties", {}).values()), {}
            )
        if not isinstance(schema, dict):
            return None
    return _resolved(schema, whole)


def _resolved(schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    found: dict[str, Any] = whole["$defs"][reference.rpartition("/")[2]] if reference else schema
    return found
