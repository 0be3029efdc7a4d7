"""Changed values as edits of a file of the Trainer's family."""

from __future__ import annotations

from functools import partial

from memplan.dialects import loader
from memplan.dialects.table import Setting, Writer, whole, writer
from memplan.dialects.trainer import adapters, attention, checkpointing, evaluation, losses, optimizers
from memplan.dialects.trainer.arguments import Arguments


def settings(arguments: Arguments) -> tuple[Setting, Setting, Setting]:
    """Micro-batch, accumulation and sequence length: one key each."""
    says = arguments.default
    return (
        Setting(
            field="batch.micro",
            keys=arguments.micro,
            read=whole,
            default=arguments.micro_default,
            says=f"{says}: {arguments.micro_default}",
        ),
        Setting(
            field="batch.accumulation",
            keys=arguments.accumulation,
            read=whole,
            default=arguments.accumulation_default,
            says=f"{says}: {arguments.accumulation_default}",
        ),
        Setting(
            field="sequence.length",
            keys=arguments.length,
            read=whole,
            default=arguments.length_default,
            says=f"{says}: {arguments.length_default}",
        ),
    )


def writers(arguments: Arguments, lora: adapters.LoraKeys | None = None) -> dict[str, Writer]:
    """What is written, by the first name of the field; a framework replaces what it has otherwise."""
    micro, accumulation, length = settings(arguments)
    beside = (*arguments.micro, *arguments.accumulation)
    found: dict[str, Writer] = {
        "batch": writer(micro, accumulation, beside=beside),
        "sequence": writer(length, beside=beside),
        "host": loader.writer(arguments.prefix, beside, arguments.workers),
        "evaluation": partial(evaluation.write, arguments, beside),
        "optimizer": partial(optimizers.write, arguments),
        "checkpointing": partial(checkpointing.write, arguments),
        "attention": partial(attention.write, arguments),
        "loss": partial(losses.write, arguments),
        "kernels": partial(losses.along, arguments),
    }
    if lora is not None:
        found["adapter"] = partial(adapters.write, lora)
    return found
