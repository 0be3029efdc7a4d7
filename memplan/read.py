"""A path becomes a reading: find the config, parse it, name its dialect, understand it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path

from memplan.dialects import detect, named
from memplan.dialects.context import beyond
from memplan.dialects.overrides import override
from memplan.dialects.quantized import as_published
from memplan.dialects.reading import Dialect, Document, Given, Intake, Listed, Origin, Reading, Where
from memplan.documents.source import Source
from memplan.documents.tree import Node
from memplan.domain.architecture import Architecture
from memplan.domain.errors import (
    FieldError,
    FileAccessError,
    InputError,
    Location,
    MemplanError,
)
from memplan.domain.published import Published

MANIFESTS = ("memplan.yaml", "memplan.yml")
CONFIG_SUFFIXES = (".yaml", ".yml", ".json", ".toml")
_LANGUAGES = {
    ".json": "memplan.documents.json",
    ".toml": "memplan.documents.toml",
    ".py": "memplan.documents.python",
    ".modelfile": "memplan.documents.modelfile",
}
MOST_CANDIDATES = 200
"""A directory with more configs than this is not searched for the one that is meant."""

_ABOUT_ADAPTERS = ("precision", "adapter", "quantization")


class Known:
    """The models of ``families``, ``profiles`` and ``hub``, for the dialects; ``online`` may ask the hub."""

    def __init__(self, *, online: bool = False) -> None:
        self._online = online

    def architecture(self, config: Mapping[str, object], where: Where) -> Architecture:
        """The architecture a Hugging Face ``config.json`` describes."""
        from memplan.families import architecture

        return architecture(config, where)

    def config(self, hub_id: str) -> Mapping[str, object] | None:
        """The config of a hub id that is known offline."""
        from memplan.profiles import model

        found = model(hub_id)
        return None if found is None else found.config

    def hub_ids(self) -> Sequence[str]:
        """Every hub id known offline."""
        from memplan.profiles import model_ids

        return model_ids()

    def named_like(self, folder: str) -> str | None:
        """The hub id that the last parts of a folder's path are."""
        from memplan.profiles import model_named_like

        return model_named_like(folder)

    def folder(self, hub_id: str) -> Path | None:
        """The folder of a model's files in the cache of the hub, fetched first where that is allowed."""
        from memplan import hub

        return hub.fetch(hub_id) if self._online else hub.cached(hub_id)

    def published(self, folder: Path) -> Published | None:
        """What the weights in a model's folder say."""
        from memplan import hub

        return hub.published(folder)


def read(
    path: str | Path,
    *,
    dialect: str | None = None,
    overrides: Sequence[str] = (),
    model: str | None = None,
    beside: Sequence[str | Path] = (),
    online: bool = False,
) -> Reading:
    """Understand a config: a file, a model directory, a manifest, or a directory that holds one.

    Args:
        path: what to read.
        dialect: the format, when it cannot or should not be detected.
        overrides: ``key=value`` in native names (``batch.micro=2``) or names of declared values; they
            replace what the file says, for this reading only.
        model: a hub id or model directory, for a file that names no model.
        beside: other files of the same job, such as the config it is launched with.
        online: whether the hub may be asked for a model that this machine does not know.

    Raises:
        MemplanError: located in the file wherever the fault has a place.
    """
    others = tuple(Path(item) for item in beside)
    given = Given(model=model, online=online, beside=others, gpus=_gpus(overrides))
    return _read(Path(path), dialect, tuple(overrides), None, given)


def reread(reading: Reading, texts: Mapping[str, str] | None = None) -> Reading:
    """Read the same path again with the same dialect and overrides.

    ``texts`` (path to new content) stand in for files on disk, so that a rewrite can be verified
    before anything is written. The hub is not asked again: its answer is in the cache.
    """
    return _read(
        reading.path, reading.dialect, reading.overrides, texts, replace(reading.given, online=False)
    )


def listing(path: str | Path) -> tuple[tuple[Listed, ...], bool]:
    """The configs a manifest lists for ``memplan check``, and whether it declares a model of its own.

    Anything that is not a manifest with ``configs:`` lists nothing and counts as a model of its own.
    """
    from memplan.dialects import manifest

    intake = Intake(Known())
    document = _document(locate(Path(path)), intake)
    if not manifest.recognises(document):
        return (), True
    return manifest.listed(document), manifest.declares_model(document)


def recognised(path: Path) -> str:
    """The name of the dialect a file is in; nothing else about it is understood.

    Raises:
        UnrecognisedError: it is in none.
        ForeignFormatError: it is in a format that is not planned.
        MemplanError: it cannot be parsed, or could be in two.
    """
    return detect(_document(path, Intake(Known()))).NAME


def locate(path: Path) -> Path:
    """The config a path means: itself, or the one in a directory.

    Raises:
        FileAccessError: it does not exist, or the directory holds no config.
        InputError: the directory holds several; all are named.
    """
    try:
        is_directory = path.is_dir()
    except (OSError, ValueError) as error:
        raise FileAccessError(f"{str(path)!r} is not a usable path: {error}") from None
    if not is_directory:
        return path
    for name in (*MANIFESTS, "config.json"):
        if (path / name).is_file():
            return path / name
    found = _candidates(path)
    if len(found) > 1:
        from memplan.dialects.job import BESIDE

        found = {item: name for item, name in found.items() if name not in BESIDE} or found
    if len(found) == 1:
        return next(iter(found))
    if found:
        raise InputError(
            f"{path} holds {len(found)} configs and no memplan.yaml",
            hint=f"name one of {', '.join(str(item) for item in list(found)[:10])}",
        )
    raise FileAccessError(
        f"{path} holds no config",
        expected=f"{' or '.join(MANIFESTS)}, config.json, or one config that memplan recognises "
        f"({', '.join('*' + suffix for suffix in CONFIG_SUFFIXES)})",
    )


def _read(
    path: Path,
    dialect: str | None,
    overrides: tuple[str, ...],
    texts: Mapping[str, str] | None,
    given: Given,
) -> Reading:
    chosen = None if dialect is None else named(dialect)
    intake = Intake(Known(online=given.online), texts, given)
    document = _document(locate(path), intake)
    reading = _understand(document, chosen, intake)
    if (folder := path.is_dir()) or given.beside or given.model:
        from memplan.dialects import job

        reading = job.complete(reading, path if folder else None, intake, partial(_document, intake=intake))
    reading = replace(
        as_published(reading),
        path=path,
        sources=dict(intake.sources),
        given=given,
        warnings=(*reading.warnings, *intake.warnings),
        findings=(*reading.findings, *intake.findings),
    )
    reading = _counted(_overridden(reading, overrides) if overrides else reading)
    return replace(reading, findings=(*reading.findings, *beyond(reading)))


def _understand(document: Document, chosen: Dialect | None, intake: Intake) -> Reading:
    return (chosen or detect(document)).read(document, intake)


def _document(path: Path, intake: Intake) -> Document:
    source = intake.open(path)
    if not source.text.strip("\ufeff \t\r\n"):
        raise FieldError(
            f"{path} is empty",
            location=Location(path=str(path), line=1),
            expected="a config: a mapping of keys to values",
        )
    return Document(path=path, source=source, root=_parser(path)(source))


def _parser(path: Path) -> Callable[[Source], Node]:
    suffix = path.suffix.lower()
    if suffix in (".cpp", ".cc", ".cu", ".h", ".hpp", ".ini"):
        raise InputError(
            f"{path} is not a config memplan reads by itself",
            expected="YAML, JSON, TOML or a Python file of assignments",
            hint="declare where its values live in a memplan.yaml and give that",
        )
    if path.name.lower().startswith("modelfile"):
        suffix = ".modelfile"
    parse: Callable[[Source], Node] = import_module(_LANGUAGES.get(suffix, "memplan.documents.yaml")).parse
    return parse


def _candidates(folder: Path) -> dict[Path, str]:
    """The configs of a folder with their dialects; one that is alone is taken for one."""
    try:
        names = sorted(item for item in folder.iterdir() if item.suffix.lower() in CONFIG_SUFFIXES)
    except OSError as error:
        raise FileAccessError(f"{folder} cannot be listed: {error.strerror}") from None
    if len(names) == 1:
        return {names[0]: ""}
    found = {}
    for item in names[:MOST_CANDIDATES]:
        with suppress(MemplanError):
            found[item] = detect(_document(item, Intake(Known()))).NAME
    return found


def _gpus(overrides: Sequence[str]) -> int | None:
    """The number of GPUs among overrides, which settles what files leave open."""
    found = [text.partition("=")[2].strip() for text in overrides if text.startswith("world.data_parallel=")]
    return int(found[-1]) if found and found[-1].isascii() and found[-1].isdigit() else None


def _overridden(reading: Reading, overrides: tuple[str, ...]) -> Reading:
    workload, origins = reading.workload, dict(reading.origins)
    for text in overrides:
        field, value = override(workload, text)
        workload = workload.changed(field, value)
        origins[field] = Origin(how="written", note=f"given by --set {text}")
    if any(text.startswith(_ABOUT_ADAPTERS) for text in overrides):
        # What the framework would make of the file is not what the command line asks for.
        workload = replace(workload, adapting=None)
    return replace(reading, workload=workload, origins=origins, overrides=overrides)


def _counted(reading: Reading) -> Reading:
    """A warning where states are spread over GPUs and nothing says over how many."""
    world, origin = reading.workload.world, reading.origins.get("world.data_parallel")
    if world.sharding == "none" or (origin is not None and origin.how == "written"):
        return reading
    warning = f"{world.sharding}: nothing says over how many GPUs; counted as 1, give --gpus N"
    return replace(reading, warnings=(*reading.warnings, warning))
