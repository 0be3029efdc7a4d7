"""What reading a config gives, and what a dialect needs to do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import realpath
from pathlib import Path
from typing import Any, Literal, Protocol

from memplan.documents.source import Source
from memplan.documents.tree import Node, ScalarNode
from memplan.domain.architecture import Architecture
from memplan.domain.edit import Advice, Edit
from memplan.domain.errors import FileAccessError, Location
from memplan.domain.finding import Finding
from memplan.domain.harm import Harm
from memplan.domain.published import Published
from memplan.domain.workload import Workload

Where = Callable[[str], Location | None]
"""Where a key of a model's config stands."""

FieldChange = tuple[str, Any, Any]
"""A change a plan asks for: native path or declared name, value before, value after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a value comes from: written in a file, the framework's default, or assumed by memplan."""

    location: Location | None = None
    how: Literal["written", "default", "assumed"]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed config: the file that was asked for, its text and its tree."""

    path: Path
    source: Source
    root: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One place where a declared value is written."""

    source: Source
    node: ScalarNode

    @property
    def location(self) -> Location:
        """Where the value's text is."""
        return self.source.location(self.node.span)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A config that a manifest lists for ``memplan check``, and the target it has to fit."""

    path: Path
    location: Location
    gpu: str | None = None
    ram: str | None = None
    margin: str | None = None
    profile: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The target a config asks for itself: names as written, to be looked up by whoever needs them."""

    gpu: str | None = None
    ram: str | None = None
    margin: str | None = None
    profile: str | None = None
    origins: Mapping[str, Origin] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """Another file of the same job, in a dialect of its own.

    ``holds`` names the fields (by their first name, such as ``world``) that only this file decides;
    ``repeats`` those it states as well, so that both files have to be kept in step.
    """

    dialect: str
    document: Document
    holds: frozenset[str] = frozenset()
    repeats: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the command line says about a job beside its path: a model, other files, the number of GPUs.

    ``online`` allows to ask the hub for a model.
    """

    model: str | None = None
    online: bool = False
    beside: tuple[Path, ...] = ()
    gpus: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A config understood: its workload and where every value of it comes from.

    ``origins`` is keyed by native path (``batch.micro``, ``target.gpu``) or by the name of a declared value.
    ``sources`` are the files that were read, by the name they are shown under. ``document`` and ``slots``
    serve writing: the main file's tree, and the places of declared values. ``batch_harm`` says what a smaller
    micro-batch with more accumulation does to this experiment where it isn't the same mathematics, and
    ``batch_reason`` why. ``companions`` are the other files of the job.
    """

    path: Path
    dialect: str
    workload: Workload
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    gpu: str | None = None
    ram: str | None = None
    margin: str | None = None
    profile: str | None = None
    tunable: tuple[str, ...] = ()
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)
    document: Document = field(repr=False)
    slots: Mapping[str, tuple[Slot, ...]] = field(default_factory=dict, repr=False)
    overrides: tuple[str, ...] = ()
    given: Given = Given()
    companions: tuple[Companion, ...] = ()
    batch_harm: Harm | None = None
    batch_reason: str = ""

    @property
    def files(self) -> dict[str, str]:
        """sha256 of every file that was read, by the name it is shown under."""
        return {name: source.sha256 for name, source in self.sources.items()}


class Models(Protocol):
    """What the layer above knows about models; dialects reach families and profiles only through it."""

    def architecture(self, config: Mapping[str, object], where: Where) -> Architecture:
        """The architecture a Hugging Face ``config.json`` describes."""

    def config(self, hub_id: str) -> Mapping[str, object] | None:
        """The config of a hub id that is known offline."""

    def hub_ids(self) -> Sequence[str]:
        """Every hub id known offline."""

    def named_like(self, folder: str) -> str | None:
        """The hub id that the last parts of a folder's path are, as download tools write them."""

    def folder(self, hub_id: str) -> Path | None:
        """The folder of a model's files in the cache of the hub; asks the hub itself only where allowed.

        Raises:
            HubError: asked, the hub did not give it.
        """

    def published(self, folder: Path) -> Published | None:
        """What the weights in a model's folder say, None where there are none.

        Raises:
            DocumentError, FileAccessError: they are not what their names say.
        """


class Intake:
    """Opens the files a dialect asks for and remembers them.

    ``texts`` stand in for files on disk, so that a rewrite can be read before it is written. ``given`` is
    what the command line adds. ``findings`` and ``warnings`` are what came up about the files opened, beside
    what the dialect says itself.
    """

    def __init__(
        self, models: Models, texts: Mapping[str, str] | None = None, given: Given | None = None
    ) -> None:
        self.models = models
        self.given = given or Given()
        self.sources: dict[str, Source] = {}
        self.findings: list[Finding] = []
        self.warnings: list[str] = []
        self._texts = {_real(Path(path)): text for path, text in (texts or {}).items()}

    def open(self, path: Path, shown: str | None = None) -> Source:
        """The text of a file, under the name ``shown`` in messages (the path itself when not given).

        Raises:
            FileAccessError: it is missing, unreadable, too large or not text.
        """
        name = shown or str(path)
        if name not in self.sources:
            self.sources[name] = self._fresh(path, name)
        return self.sources[name]

    def _fresh(self, path: Path, name: str) -> Source:
        try:
            text = self._texts.get(_real(path)) if self._texts else None
            return Source.of(text, name) if text is not None else Source.open(path, name)
        except (OSError, ValueError) as error:
            raise FileAccessError(f"{name} cannot be read: {error}") from None


class Dialect(Protocol):
    """What every module listed in ``memplan.dialects.DIALECTS`` offers."""

    NAME: str

    def recognises(self, document: Document) -> int:
        """How specifically a document looks like this dialect; 0 is not at all."""

    def read(self, document: Document, intake: Intake) -> Reading:
        """Understand a document."""

    def edits(
        self, reading: Reading, changes: Sequence[FieldChange]
    ) -> tuple[tuple[Edit, ...], tuple[Advice, ...]]:
        """How to write the changes into the files they came from."""


def _real(path: Path) -> str:
    return realpath(path)
