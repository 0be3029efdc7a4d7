"""A loss that never holds all logits, or no fp32 copy of them: the same mean over the same tokens.

Liger's fused linear cross-entropy needs its package and Triton. The Trainer has one switch for it and for
Liger's kernels within blocks, so that the two are offered together as well as apart. Chunks need nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memplan.domain import liger
from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.kernels import LIGER
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Loss, Task, Workload

NAME = "loss"
SUMMARY = "compute the loss without keeping all logits"
HARM = Harm.EXACT

PACKAGE = "liger-kernel"
OLDEST = (7, 0)
"""The compute capability from which on Triton compiles Liger's kernels."""

CHUNKED = Loss(kind="chunked", chunks=8)
"""Eight pieces: the default of torchtune's ``CEWithChunkedOutputLoss`` and of axolotl."""

_WHOLE = ("cross_entropy", "liger_cross_entropy")
_OF_LIGER = ("fused_linear", "liger_cross_entropy")
_REPLACED = (*_WHOLE, "chunked", "fused_linear")
_HEAD = "lm_head"


def options(workload: Workload, target: Target | None) -> tuple[Option, ...]:
    """Chunks, Liger's loss alone, and Liger's loss with its kernels, as far as they are not in use.

    A head that is adapted or copied is none of Liger's: it reads the weights of the layer that was there.
    """
    model = workload.model
    if not isinstance(model, Architecture) or workload.task is not Task.TRAIN or not model.causal:
        return ()
    if workload.loss.kind not in _REPLACED:
        return ()
    return (*_chunked(workload), *(_liger(workload, model) if _runs(workload, model, target) else ()))


def _chunked(workload: Workload) -> Iterator[Option]:
    if workload.loss.kind == "cross_entropy" and workload.framework.code != "litgpt":
        yield Option(
            changes={"loss": CHUNKED},
            harm=HARM,
            reason="logits are upcast to fp32 piece by piece, and not all at once",
        )


def _liger(workload: Workload, model: Architecture) -> Iterator[Option]:
    """Of a model type whose logits Liger keeps whole, its kernels come with that loss."""
    fused = liger.loss(model.model_type)
    if fused.kind == "fused_linear" and workload.loss != fused:
        yield _option(workload, {"loss": fused}, "logits exist for a few tokens at a time only")
    if set(workload.kernels.liger) != set(LIGER):
        changes: dict[str, Any] = {"loss": fused, "kernels.liger": LIGER}
        different = {field: value for field, value in changes.items() if workload.at(field) != value}
        what = "Liger's loss and kernels" if "loss" in different else "Liger's kernels"
        yield _option(workload, different, f"{what} keep less for backward than the model's own ops")


def _option(workload: Workload, changes: dict[str, Any], reason: str) -> Option:
    there = workload.loss.kind in _OF_LIGER or workload.kernels.liger
    return Option(changes=changes, harm=HARM, reason=reason, requires=() if there else (PACKAGE,))


def _runs(workload: Workload, model: Architecture, target: Target | None) -> bool:
    adapter = workload.adapter
    own_head = adapter is not None and _HEAD in (*adapter.targets, *adapter.modules_to_save)
    return (
        workload.framework.code == "transformers"
        and liger.patched(model.model_type)
        and not own_head
        and (target is None or target.compute_capability >= OLDEST)
    )
