"""Adapters and 4-bit weights as LLaMA-Factory spells them; what follows from them has no key of its own."""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.llamafactory.vocabulary import LORA
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.adapters import expected
from memplan.dialects.trainer.adapting import quantizes, spell
from memplan.domain.architecture import Architecture
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload

FROZEN = "weights have the dtype of their files as soon as they are frozen, with finetuning_type: lora"
_BESIDE = ("finetuning_type", "stage", "model_name_or_path")


def adapter(reading: Reading, after: Workload) -> list[Edit]:
    """Edits for another adapter; targets are words with commas between, or ``all``.

    ``lora_alpha`` is twice the rank unless it is written (``LoraArguments``).

    Raises:
        EditRefusedError: the adapter is given up, newly made of a run that goes with none, or differs
            in what has no key.
    """
    wanted, before = after.adapter, reading.workload.adapter
    if wanted == before:
        return []
    if wanted is None:
        raise EditRefusedError("training all parameters instead of an adapter is a decision for a person")
    if before is None and reading.workload.adapting is None:
        raise EditRefusedError("what the file trains by goes with no LoRA")
    if before is not None and before.kind != "lora":
        raise EditRefusedError("of adapters LoRA is written")
    usual = expected(reading, after)
    if replace(wanted, rank=usual.rank, targets=usual.targets, dropout=usual.dropout) != usual:
        raise EditRefusedError("of an adapter its rank, targets and dropout are written")
    written = [] if before is not None else put(reading, LORA.switch, "lora", _BESIDE)
    if before is None or wanted.rank != before.rank:
        written += put(reading, LORA.rank, wanted.rank, _BESIDE)
    if wanted.dropout != (before or usual).dropout:
        written += put(reading, LORA.dropout, wanted.dropout, (*LORA.rank, *_BESIDE))
    if before is None or wanted.targets != before.targets:
        written += put(reading, LORA.targets, _spelled(reading, wanted.targets), (*LORA.rank, *_BESIDE))
    return written


def quantization(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``quantization_bit`` and what goes with it."""
    if not quantizes(reading, after):
        return []
    wanted = (
        (("quantization_bit",), 4, None),
        (("quantization_type",), "nf4", "nf4"),
        (("double_quantization",), True, True),
    )
    return spell(reading, wanted, _BESIDE)


def _spelled(reading: Reading, targets: tuple[str, ...]) -> str:
    model = reading.workload.model
    whole = isinstance(model, Architecture) and targets == model.linears
    return "all" if whole else ",".join(targets)
