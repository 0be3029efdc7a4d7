"""The frameworks' own parsers take runs that memplan gave adapters, 4-bit weights or a lower rank.

Needs axolotl (0.19), TRL (1.16), LLaMA-Factory (0.9.5) or oumi (0.9); without a GPU and without the models.
Of every real config each kind of change is written, and found in what the framework would run with.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from memplan import profiles
from memplan.dialects import edits
from memplan.dialects.reading import Reading
from memplan.documents import edits as documents
from memplan.domain.architecture import Architecture
from memplan.domain.errors import MemplanError
from memplan.levers import adapter
from memplan.read import read

pytestmark = pytest.mark.filterwarnings("ignore")

Parser = Callable[[Path], dict[str, Any]]
"""The values that a framework would run a file with; an exception where it refuses it."""


def imported(name: str) -> Any:
    """A module of a framework; the test is skipped where that is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"{name} is not installed here: {error}")


def axolotl() -> Parser:
    schemas = imported("axolotl.utils.schemas.config")
    return lambda path: dict(
        schemas.AxolotlInputConfig(**yaml.safe_load(path.read_text("utf-8"))).model_dump()
    )


def trl() -> Parser:
    library = imported("trl")

    def parse(path: Path) -> dict[str, Any]:
        keys = yaml.safe_load(path.read_text("utf-8"))
        config = "GRPOConfig" if "num_generations" in keys else "DPOConfig" if "beta" in keys else "SFTConfig"
        classes = (getattr(library, config), library.ModelConfig)
        *found, _ = library.TrlParser(classes).parse_args_and_config(
            ["--config", str(path), "--use_cpu", "true"],
            return_remaining_strings=True,
            fail_with_unknown_args=False,
        )
        return {item.name: getattr(part, item.name) for part in found for item in fields(part)}

    return parse


def llamafactory() -> Parser:
    transformers, hparams = imported("transformers"), imported("llamafactory.hparams")
    classes = (hparams.ModelArguments, hparams.FinetuningArguments)

    def parse(path: Path) -> dict[str, Any]:
        keys = yaml.safe_load(path.read_text("utf-8"))
        found = transformers.HfArgumentParser(classes).parse_dict(keys, allow_extra_keys=True)
        return {item.name: getattr(part, item.name) for part in found for item in fields(part)}

    return parse


def oumi() -> Parser:
    configs = imported("oumi.core.configs")
    return lambda path: asdict(configs.TrainingConfig.from_yaml(path))


PARSERS = {"axolotl": axolotl, "trl": trl, "llamafactory": llamafactory, "oumi": oumi}


def rewritten(reading: Reading) -> Iterator[str]:
    """The text with each option of the lever that the file can say."""
    run = reading.workload
    for option in adapter.options(run, profiles.target("rtx3090")):
        changes = [(field, run.at(field), value) for field, value in option.changes.items()]
        written, advice = edits(reading, changes)
        own = [edit for edit in written if edit.path == reading.document.source.path]
        if not advice and len(own) == len(written):
            yield documents.apply(reading.document.source, own)


def readable(corpus: Path, framework: str) -> Iterator[Reading]:
    """Every training config of the framework whose model is known."""
    for entry in json.loads((corpus / "manifest.json").read_text("utf-8")):
        if entry["dialect"] != framework:
            continue
        try:
            reading = read(corpus / entry["file"])
        except MemplanError:
            continue
        if isinstance(reading.workload.model, Architecture):
            yield reading


@pytest.mark.parametrize("framework", PARSERS)
def test_what_is_written_is_taken_and_found_again(
    framework: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    parse = PARSERS[framework]()
    taken = 0
    for reading in readable(corpus, framework):
        before = yaml.safe_load(reading.document.source.text)
        try:
            parse(reading.path)
        except Exception:
            continue  # refused as it stands
        for text in rewritten(reading):
            path = tmp_path / reading.path.name
            path.write_text(text, encoding="utf-8")
            found = parse(path)
            holds(found, changed(before, yaml.safe_load(text)), reading.path)
            taken += 1
    assert taken >= 12


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What differs, section by section."""
    found: dict[str, Any] = {}
    for name, value in after.items():
        inner = before.get(name)
        if isinstance(value, dict):
            inside = changed(inner if isinstance(inner, dict) else {}, value)
            found |= {name: inside} if inside else {}
        elif inner != value:
            found[name] = value
    return found


def holds(found: Any, wanted: dict[str, Any], path: Path) -> None:
    """Whether every changed value is there; words for lists and dtypes may be spelled out."""
    for name, value in wanted.items():
        has = getattr(found, name) if is_dataclass(found) else found[name]
        if isinstance(value, dict):
            holds(has, value, path)
        elif not isinstance(value, str):
            assert has == value, (path, name)
        else:
            assert str(getattr(has, "value", has)) == value or has == [value], (path, name, has)
