"""Losses: Liger's kernels, which the Trainer patches in."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.arguments import Arguments
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Checkpointing, Loss, Unmodelled, Workload

FUSED = Loss(kind="fused_linear")


def loss(keys: Keys, arguments: Arguments) -> Loss:
    """``use_liger_kernel`` brings the fused linear cross-entropy; without it logits are whole."""
    value = keys.get(*arguments.liger)
    keys.note("loss", value, "full logits and cross entropy")
    return FUSED if _on(keys, arguments) else Loss()


def kernels(keys: Keys, arguments: Arguments, checkpointing: Checkpointing) -> tuple[Unmodelled, ...]:
    """Liger's norms, rotary embedding and MLPs, which keep less where every block's activations stay."""
    value = keys.get(*arguments.liger)
    if value is None or not _on(keys, arguments) or checkpointing.every:
        return ()
    reason = "Liger's norms and MLPs keep less than counted for those of transformers"
    return (at(value, reason, shrinks=("activations",)),)


def at(
    value: Value, reason: str, *, shrinks: tuple[str, ...] = (), grows: tuple[str, ...] = ()
) -> Unmodelled:
    """A setting that isn't simulated, with its place and key."""
    place = f"{value.source.path}:{value.location.line}"
    return Unmodelled(reason=f"{place}: {value.key}: {reason}", shrinks=shrinks, grows=grows)


def write(arguments: Arguments, reading: Reading, after: Workload) -> list[Edit]:
    """Edits that switch Liger's kernels on or off.

    Raises:
        EditRefusedError: the switch stands for neither of the two losses.
    """
    before = reading.workload.loss
    if after.loss == before:
        return []
    if {before, after.loss} != {Loss(), FUSED}:
        raise EditRefusedError(f"{arguments.framework} has no key for it that memplan writes")
    return put(reading, arguments.liger, after.loss == FUSED, beside=arguments.accumulation)


def _on(keys: Keys, arguments: Arguments) -> bool:
    return bool(keys.flag(*arguments.liger))
