"""From the name, folder or config of a model to its architecture."""

from __future__ import annotations

from pathlib import Path

from memplan.dialects.fields import Value
from memplan.dialects.reading import Intake
from memplan.documents import json
from memplan.documents.tree import MappingNode, plain
from memplan.domain.architecture import Architecture
from memplan.domain.errors import FieldError, FileAccessError, Location, UnknownNameError


def of_config(value: Value, intake: Intake) -> Architecture:
    """The architecture that a mapping of ``config.json`` fields describes.

    Raises:
        FieldError, UnknownNameError: at the field that is missing, wrong or not supported.
    """
    node = value.node
    if not isinstance(node, MappingNode):
        raise value.fail(
            f"must be a mapping, not {value.described()}", expected="the fields of a config.json"
        )
    value.entries(repeats=True)

    def where(key: str) -> Location:
        item = node.item(key)
        return value.location if item is None else value.source.location(item.value.span)

    return intake.models.architecture(plain(node), where)


def of_folder(folder: Path, intake: Intake, shown: str | None = None) -> Architecture:
    """The architecture of a model directory, from its ``config.json``."""
    source = intake.open(folder / "config.json", shown)
    return of_config(Value(source=source, key="", node=json.parse(source)), intake)


def of_hub(hub_id: str, value: Value, intake: Intake) -> Architecture:
    """The architecture of a model on the hub, as far as it is known offline.

    Raises:
        UnknownNameError: at ``value``, offering the nearest known ids.
    """
    config = intake.models.config(hub_id)
    if config is None:
        raise UnknownNameError.nearest(
            "model known offline",
            hub_id,
            intake.models.hub_ids(),
            location=value.location,
            hint="name a local directory that holds the model's config.json",
        )

    def where(_key: str) -> Location:
        return value.location

    return intake.models.architecture(config, where)


def of_name(value: Value, intake: Intake, beside: Path, *, hub: bool = True) -> Architecture:
    """The architecture of a directory (relative to the config or to where one stands) or of a hub id."""
    name = value.word()
    for folder in (beside / name, Path(name)):
        try:
            found = (folder / "config.json").is_file()
        except (OSError, ValueError):
            found = False
        if found:
            return of_folder(folder, intake)
    if not hub or name.startswith((".", "/", "~")):
        raise FileAccessError(
            f"{value.key}: there is no {name}/config.json",
            location=value.location,
            expected="a directory with the model's config.json, or a hub id",
        )
    return of_hub(name, value, intake)


def required_mapping(value: Value) -> Value:
    """The value itself when it is a mapping with something in it.

    Raises:
        FieldError: it is empty, a list or a scalar.
    """
    if isinstance(value.node, MappingNode) and value.node.items:
        return value
    empty = value.is_null or isinstance(value.node, MappingNode)
    raise FieldError(
        f"{value.source.path} {'is empty' if empty else f'holds {value.described()} at the top'}",
        location=value.location,
        expected="a mapping of keys to values",
    )
