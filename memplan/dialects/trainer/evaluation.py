"""Evaluation between steps: batches of a size of its own, whose logits are a frequent hidden peak."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import Setting, whole, writer
from memplan.dialects.trainer.arguments import Arguments
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Evaluation, Workload

_NEVER = ("no", "false", "none", "0", "0.0")
WHEN = ("eval_strategy", "evaluation_strategy", "do_eval", "eval_on_start")


def evaluation(keys: Keys, arguments: Arguments) -> Evaluation | None:
    """Batches of ``per_device_eval_batch_size`` if the run evaluates at all.

    The Trainer keeps no logits unless it computes metrics (``prediction_loss_only``, set where there is no
    ``compute_metrics``: ``evaluate`` in transformers src/transformers/trainer.py).
    """
    asked = [keys.get(*arguments.names(name)) for name in WHEN]
    if not any(value is not None and value.written().lower() not in _NEVER for value in asked):
        return None
    value = keys.get(*arguments.evaluated)
    default = arguments.evaluated_default
    keys.note("evaluation", value, f"{arguments.default}: {default} sequences")
    # A framework that patches models itself leaves the Trainer unaware that it could skip logits.
    patches = not set(arguments.liger).intersection(arguments.names("use_liger_kernel"))
    batch = default if value is None else keys.whole(*arguments.evaluated) or default
    return Evaluation(batch=batch, skip_logits=not patches)


def setting(arguments: Arguments) -> Setting:
    """How the size of its batches is written."""
    return Setting(
        field="evaluation.batch",
        keys=arguments.evaluated,
        read=whole,
        default=arguments.evaluated_default,
        says=f"{arguments.default}: {arguments.evaluated_default}",
    )


def write(arguments: Arguments, beside: tuple[str, ...], reading: Reading, after: Workload) -> list[Edit]:
    """The size of its batches; the rest is not the file's to say.

    Raises:
        EditRefusedError: there is none, or more of it changes than the size.
    """
    before, wanted = reading.workload.evaluation, after.evaluation
    if before is not None and wanted is not None and replace(before, batch=wanted.batch) != wanted:
        raise EditRefusedError("which logits an evaluation makes or keeps is not written in the file")
    return writer(setting(arguments), beside=beside)(reading, after)
