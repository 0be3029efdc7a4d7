"""From the name, folder or config of a model to its architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from memplan.dialects.fields import Value
from memplan.dialects.reading import Intake
from memplan.documents import json
from memplan.documents.tree import MappingNode, plain
from memplan.domain.architecture import Architecture
from memplan.domain.errors import (
    FieldError,
    FileAccessError,
    HubError,
    Location,
    MemplanError,
    UnknownNameError,
)
from memplan.domain.finding import Finding, Level

WEIGHTS_DIFFER = "MP007"
"""A model's files hold another number of weights than its config tells of."""


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
    root = Value(source=source, key="", node=json.parse(source))
    return weighed(of_config(root, intake), folder, root.location, intake)


def of_hub(hub_id: str, value: Value, intake: Intake) -> Architecture:
    """The architecture of a model on the hub: known offline, in the hub's cache, or from the hub if allowed.

    Raises:
        UnknownNameError: at ``value``, offering the nearest known ids.
        HubError: at ``value``, when the hub was asked in vain.
    """
    config = intake.models.config(hub_id)
    folder = _fetched(hub_id, value, intake)
    if config is None:
        if folder is not None:
            return of_folder(folder, intake)
        raise UnknownNameError.nearest(
            "model known offline",
            hub_id,
            intake.models.hub_ids(),
            location=value.location,
            hint="name a local directory that holds the model's config.json, or ask the hub with --online",
        )

    def where(_key: str) -> Location:
        return value.location

    shape = intake.models.architecture(config, where)
    return shape if folder is None else weighed(shape, folder, value.location, intake)


def _fetched(hub_id: str, value: Value, intake: Intake) -> Path | None:
    try:
        return intake.models.folder(hub_id)
    except HubError as error:
        error.location = value.location
        raise


def weighed(shape: Architecture, folder: Path, place: Location, intake: Intake) -> Architecture:
    """The architecture beside the weights that lie in its folder: a finding where they differ.

    The weights say in which dtype they are where the config does not (``torch_dtype="auto"`` of transformers
    goes by them too). Weights that cannot be read are a warning: the config says enough.
    """
    try:
        found = intake.models.published(folder)
    except MemplanError as error:
        intake.warnings.append(f"the weights beside the config were left out: {error.message}")
        return shape
    if found is None:
        return shape
    named = shape.config.get("dtype") or shape.config.get("torch_dtype")
    if named in (None, "auto") and found.dtype is not None:
        shape = replace(shape, config={**shape.config, "dtype": found.dtype.label})
    twice = shape.vocab_size * shape.hidden_size if shape.tie_word_embeddings else 0
    if found.parameters not in (shape.parameters, shape.parameters + twice):
        intake.findings.append(
            Finding(
                path=place.path,
                line=place.line,
                code=WEIGHTS_DIFFER,
                level=Level.WARNING,
                message=f"the config tells of {shape.parameters:,} parameters, "
                f"but the files in {folder} hold {found.parameters:,}",
            )
        )
    return shape


def of_name(value: Value, intake: Intake, beside: Path, *, hub: bool = True) -> Architecture:
    """The architecture of a directory (relative to the config or to where one stands) or of a hub id.

    A directory or an unknown id whose last part is a known model's name is taken for it, with a warning.

    Raises:
        FileAccessError: at ``value``, when it can only be a directory and there is none.
        UnknownNameError, HubError: at ``value``, as ``of_hub``.
    """
    name = value.word()
    for folder in (beside / name, Path(name)):
        try:
            found = (folder / "config.json").is_file()
        except (OSError, ValueError):
            found = False
        if found:
            return of_folder(folder, intake)
    only_folder = not hub or name.startswith((".", "/", "~"))
    if hub and (only_folder or not _answered(name, intake)):
        like = intake.models.named_like(name)
        if like is not None:
            place = f"{value.location.path}:{value.location.line}"
            intake.warnings.append(f"{place}: {name} is not here; taken for {like}, whose name it has")
            return of_hub(like, value, intake)
    if only_folder:
        raise FileAccessError(
            f"{value.key}: there is no {name}/config.json",
            location=value.location,
            expected="a directory with the model's config.json, or a hub id",
        )
    return of_hub(name, value, intake)


def _answered(hub_id: str, intake: Intake) -> bool:
    """Whether an id can be looked up, or the hub may be asked."""
    models = intake.models
    return intake.given.online or models.config(hub_id) is not None or models.folder(hub_id) is not None


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
