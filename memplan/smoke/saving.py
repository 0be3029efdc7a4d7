"""``--save``: what a framework leaves on disk of a run, written once and measured.

The files go into a temporary folder that is gone when they were measured, whatever happens meanwhile: an
error, Ctrl-C, or SIGTERM. Weights or adapters are saved by ``save_pretrained`` of transformers or PEFT, the
optimizer by ``torch.save``, as the Hugging Face Trainer does (``_save_optimizer_and_scheduler`` in
transformers src/transformers/trainer.py).
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from memplan.domain.architecture import Architecture
from memplan.domain.bytes import Bytes
from memplan.domain.errors import FileAccessError, InputError
from memplan.domain.measurement import Comparison
from memplan.domain.target import ASSUMED_CAPABILITY
from memplan.domain.workload import Task, Workload
from memplan.estimate import trace_of
from memplan.estimate.disk.archive import optimizer_bytes
from memplan.estimate.disk.checkpoint import states, weights
from memplan.estimate.disk.safetensors import file_bytes
from memplan.estimate.kept import kept
from memplan.smoke.child import interruptible

WEIGHTS, OPTIMIZER = "weights", "optimizer"

FULL = "make room, or name another folder: TMPDIR=DIR"

Sizes = tuple[tuple[str, Bytes], ...]
"""Bytes of the files of each kind."""


class Saver:
    """To be called with a run that is through. ``expected`` is what it is to leave, ``seen`` what it left."""

    def __init__(self, workload: Workload) -> None:
        """Check that there is something to save, and room for it.

        Raises:
            InputError: the workload saves nothing, or more than there is room for.
        """
        refuse(workload)
        self.workload = workload
        self.expected = predicted(workload)
        self.seen: Sizes | None = None
        _check_room(sum(size for _, size in self.expected))

    def __call__(self, run: Any) -> None:
        """Save a run's ``model`` and ``optimizer``, and keep how much that was.

        Raises:
            FileAccessError: the files cannot be written: the disk is full, or closed.
        """
        with interruptible(), _folder() as folder, _in_words(folder), _quietly():
            self.seen = tuple(_written(folder, run, self.workload))

    def beside(self, found: Comparison) -> Comparison:
        """A comparison with files on both sides; unchanged for a run that died before it could save."""
        if self.seen is None or found.shortage is not None:
            return found
        note = (
            "saved once and deleted again; a checkpoint of the Trainer holds small files besides (its state,"
            " the scheduler's, settings), which were not written"
        )
        return replace(
            found,
            predicted=replace(found.predicted, disk=self.expected),
            measured=replace(found.measured, disk=self.seen),
            notes=(*found.notes, note),
        )


def refuse(workload: Workload) -> None:
    """Check that a run leaves anything to save.

    Raises:
        InputError: it does not.
    """
    reason = None
    if not isinstance(workload.model, Architecture):
        reason = "nobody said what is saved of a model that is declared"
    elif workload.task is not Task.TRAIN:
        reason = f"a run whose task is {workload.task} saves nothing"
    elif not workload.saving.kept:
        reason = "this run saves nothing: saving.kept is 0"
    if reason is not None:
        raise InputError(reason, hint="leave out --save")


def predicted(workload: Workload) -> Sizes:
    """Files of one checkpoint as ``memplan estimate`` counts them: weights or adapters, and the optimizer."""
    found = kept(trace_of(workload, ASSUMED_CAPABILITY))
    files = [(WEIGHTS, Bytes(file_bytes(weights(workload, found))))]
    if workload.saving.optimizer:
        files.append((OPTIMIZER, Bytes(optimizer_bytes(states(workload, found)))))
    return tuple(files)


def _written(folder: Path, run: Any, workload: Workload) -> Iterator[tuple[str, Bytes]]:
    import torch

    run.model.save_pretrained(folder)
    yield WEIGHTS, Bytes(sum(file.stat().st_size for file in folder.glob("*.safetensors")))
    if workload.saving.optimizer:
        file = folder / "optimizer.pt"
        torch.save(run.optimizer.state_dict(), file)
        yield OPTIMIZER, Bytes(file.stat().st_size)


def _check_room(needed: int) -> None:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"a checkpoint takes {Bytes(needed).rounded()} and {Bytes(free).rounded()} are free in {folder}:"
            f" {Bytes(needed - free).rounded()} are missing",
            hint=FULL,
        )


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="memplan-saved-") as name:
        yield Path(name)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the libraries' warnings and bars; and they ask no hub whether it has the model."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), patch.dict(os.environ, HF_HUB_OFFLINE="1"):
            warnings.simplefilter("ignore")
            yield
    finally:
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _in_words(folder: Path) -> Iterator[None]:
    """A disk that takes no more, in memplan's words: each library has its own error for it."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        full = getattr(error, "errno", None) == errno.ENOSPC or not shutil.disk_usage(folder).free
        said = "the disk is full" if full else " ".join(str(error).split())[:200]
        raise FileAccessError(
            f"the checkpoint cannot be written to {folder.parent}: {said}", hint=FULL
        ) from error
