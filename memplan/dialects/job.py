"""A job of several files: a training config, and what lies beside it or is named with it.

The training config is read by its own dialect, which finds what it names. A launcher's config, a DeepSpeed
config that is named on the command line and an adapter's config are joined to it here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from memplan.dialects import detect
from memplan.dialects.assumed import BY_OPTION
from memplan.dialects.fields import Value
from memplan.dialects.reading import Document, Intake, Reading
from memplan.domain.errors import InputError, Location

BESIDE = ("peft_adapter", "deepspeed", "accelerate")
"""Dialects of files that belong to another one's run, in the order they are joined to it."""

WITHOUT = ("native", "manifest")
"""Dialects whose files say everything themselves."""

Parse = Callable[[Path], Document]
LAUNCH_MARK = "distributed_type"
ADAPTER_FILE = "adapter_config.json"


def complete(reading: Reading, folder: Path | None, intake: Intake, parse: Parse) -> Reading:
    """A reading together with the other files of its job: those that were named, else those of its folder.

    Args:
        reading: the training config as its own dialect reads it.
        folder: the folder that was asked for, None when a file was.
        intake: opens files; holds what the command line names.
        parse: reads a file into a document.

    Raises:
        InputError: a file is none that belongs to another one's run, there are two of a kind, or a model
            is given for a config that names one.
    """
    given, origin = intake.given, reading.origins.get("model")
    if given.model is not None and (origin is None or origin.note != BY_OPTION):
        where = origin.location if origin is not None else None
        raise InputError("the config names its model itself, so --model would not count", location=where)
    beside = given.beside
    if not beside and folder is not None and reading.dialect not in WITHOUT:
        launchers, adapters = _lying_in(folder, reading.document.path)
        launcher, reading = _chosen(launchers, reading)
        beside = (*launcher, *adapters)
    found: dict[str, Document] = {}
    for document in map(parse, beside):
        name = detect(document).NAME
        _check(document, name, [*found, reading.dialect])
        found[name] = document
    for name in BESIDE:
        if name in found:
            reading = _joined(reading, name, found[name], intake)
    return reading


def _check(document: Document, name: str, others: Sequence[str]) -> None:
    place = Location(path=document.source.path, line=1)
    if name not in BESIDE:
        raise InputError(
            f"{document.source.path} is a config of its own ({name}), not one beside another",
            location=place,
            expected="an accelerate config, a DeepSpeed JSON or an adapter_config.json",
        )
    if name in others:
        raise InputError(f"{document.source.path} is a second {name} config", location=place)


def _lying_in(folder: Path, main: Path) -> tuple[list[Path], list[Path]]:
    """The files of a folder that belong to its training config: launchers' configs, and an adapter's."""
    launchers = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".yaml", ".yml") and path != main and _mentions(path, LAUNCH_MARK)
    ]
    adapter = folder / ADAPTER_FILE
    return launchers, [adapter] if adapter.is_file() and adapter != main else []


def _chosen(launchers: Sequence[Path], reading: Reading) -> tuple[tuple[Path, ...], Reading]:
    """The one launcher's config there is; of several none is taken, and that is said."""
    if len(launchers) < 2:
        return tuple(launchers), reading
    names = " and ".join(path.name for path in launchers)
    warning = f"{reading.document.path.parent} holds {names}: none of them is read; name one with --with"
    return (), replace(reading, warnings=(*reading.warnings, warning))


def _joined(reading: Reading, name: str, document: Document, intake: Intake) -> Reading:
    if name == "peft_adapter":
        from memplan.dialects.peft_adapter import adapted

        return adapted(reading, document)
    if name == "deepspeed":
        from memplan.dialects.zero.engine import under

        return under(reading, Value(source=document.source, key="", node=document.root), intake)
    from memplan.dialects.accelerate.launch import launched

    return launched(reading, document, intake)


def _mentions(path: Path, mark: str) -> bool:
    """Whether a file has a word; most files of a folder need no parsing."""
    try:
        return f"{mark}:" in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
