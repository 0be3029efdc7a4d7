"""A folder of profile files, read and judged as a whole and turned into records.

Importing this module imports pydantic and PyYAML: look-ups of the shipped profiles never do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError  # noqa: TID253  see above

from memplan.domain.errors import ProfileError
from memplan.profiles.model_schema import LAYOUTS, ModelFile
from memplan.profiles.names import folded
from memplan.profiles.schema import Entry, GpuFile, NamedFile
from memplan.profiles.source import Keys, Source, read
from memplan.profiles.store import Record, Records


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
    for path in sorted(folder.glob("*.y*ml")):
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
        plain, quantized = record.pop("ids"), record.pop("quantized")
        record["config"] = _written(record["config"], source.values["architectures"][name]["config"])
        records.models[name] = record
        _add_ids(source, records, name, plain, ("architectures", name, "ids"))
        for layout, ids in quantized.items():
            config = {key: value for key, value in record["config"].items() if key != "quantization_config"}
            packed = {"quantization_config": LAYOUTS[layout]} if LAYOUTS[layout] else {}
            records.models[f"{name}-{layout}"] = {**record, "config": {**config, **packed}}
            _add_ids(source, records, f"{name}-{layout}", ids, ("architectures", name, "quantized", layout))


def _add_ids(source: Source, records: Records, name: str, ids: list[str], where: Keys) -> None:
    for place, hub_id in enumerate(ids):
        if records.model_ids.setdefault(hub_id, name) != name:
            owner = records.model_ids[hub_id]
            raise source.error(f"{hub_id} already has the architecture {owner}", (*where, place))


def _written(config: Record, said: Record) -> Record:
    """What a config says, an explicit null included, without the fields it leaves out."""
    return {
        key: _written(value, said[key]) if isinstance(value, dict) else value
        for key, value in config.items()
        if value is not None or key in said
    }


def _add_named(source: Source, records: Records) -> None:
    record = _validated(source, NamedFile)
    name = record.pop("gpu")
    if name in records.named:
        raise source.error(f"another file has named profiles for {name}", ("gpu",))
    records.named[name] = record


def _validated(source: Source, model: type[Entry]) -> Record:
    try:
        return model.model_validate(source.values).model_dump(mode="json")
    except ValidationError as error:
        first = min(error.errors(include_url=False), key=lambda problem: len(problem["loc"]) == 0)
        raise _located(source, model, first) from error


def _located(source: Source, model: type[Entry], problem: Any) -> ProfileError:
    keys: Keys = tuple(part for part in problem["loc"] if part != "[key]")
    kind = problem["type"]
    expected = _expected(model, keys)
    if kind == "missing":
        return source.error("this field is missing", keys, expected=expected)
    if kind == "extra_forbidden":
        return source.error("this field is not known", keys, expected=_fields(model, keys[:-1]), at_key=True)
    message = problem["msg"].removeprefix("Value error, ")
    return source.error(message, keys, expected=expected, at_key="[key]" in problem["loc"])


def _expected(model: type[Entry], keys: Keys) -> str | None:
    """The description of the field that the keys lead to."""
    schema = _schema_at(model, keys)
    description = schema.get("description") if schema and "properties" not in schema else None
    return None if description is None else str(description)


def _fields(model: type[Entry], keys: Keys) -> str:
    schema = _schema_at(model, keys) or {}
    return f"one of {', '.join(schema.get('properties', {}))}"


def _schema_at(model: type[Entry], keys: Keys) -> dict[str, Any] | None:
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
