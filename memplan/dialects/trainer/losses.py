"""Losses: Liger's kernels, which the Trainer patches in."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.arguments import Arguments
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Loss, Unmodelled, Workload

FUSED = Loss(kind="fused_linear")
KERNELS = "Liger's norms and MLPs keep less than is counted, that of transformers"


def loss(keys: Keys, arguments: Arguments) -> Loss:
    """``use_liger_kernel`` brings the fused linear cross-entropy; without it logits are whole."""
    value = keys.get(*arguments.liger)
    keys.note("loss", value, "full logits and cross entropy")
    if value is None or not keys.flag(*arguments.liger):
        return Loss()
    keys.warn(value, f"{value.key}: {KERNELS}")
    return FUSED


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
