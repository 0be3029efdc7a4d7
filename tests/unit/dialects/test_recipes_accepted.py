"""torchtune and litgpt themselves accept every rewritten file as they accepted the file before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memplan.dialects.reading import Reading

from .recipe_files import changes, listed, rewritten, understood


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Their imports warn about other libraries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def library(name: str) -> Any:
    """A library, or a reason to skip where it or one that it needs is not installed."""
    return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


def torchtune_says(path: Path) -> str:
    """What ``config.validate`` finds wrong, which binds every component's arguments to its signature."""
    try:
        library("torchtune.config").validate(library("omegaconf").OmegaConf.load(path))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def litgpt_says(path: Path) -> str:
    """What the command's parser finds wrong, which builds all dataclasses of its arguments."""
    parser = library("jsonargparse").ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(library(_command(path.read_text())).setup)
    try:
        parser.instantiate_classes(parser.parse_path(path))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _command(text: str) -> str:
    if "model_name:" in text:
        return "litgpt.pretrain"
    return "litgpt.finetune.lora" if "lora_r:" in text else "litgpt.finetune.full"


def rewrites(reading: Reading) -> Iterator[str]:
    for wanted in changes(reading):
        text, possible = rewritten(reading, wanted)
        if possible:
            yield text


def check(files: list[Path], says: Callable[[Path], str], folder: Path) -> int:
    """How many rewritten files were accepted; what is wrong with a file before is wrong with it after."""
    accepted = 0
    path = folder / "rewritten.yaml"
    for file in files:
        before = says(file)
        for text in rewrites(understood(file)):
            path.write_text(text)
            assert says(path) == before, file
            accepted += not before
    return accepted


def test_torchtune_accepts_every_rewritten_recipe(corpus: Path, tmp_path: Path) -> None:
    library("torchtune.config")
    assert check(listed(corpus, "torchtune"), torchtune_says, tmp_path) >= 30


@pytest.mark.slow
def test_litgpt_accepts_every_rewritten_config(corpus: Path, tmp_path: Path) -> None:
    library("litgpt.finetune.lora")
    assert check(listed(corpus, "litgpt"), litgpt_says, tmp_path) >= 50
