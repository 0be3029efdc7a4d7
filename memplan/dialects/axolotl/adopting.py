"""Adapters and 4-bit weights as axolotl spells them.

Source (0.19): ``LoraConfig`` and ``validate_qlora`` in src/axolotl/utils/schemas/peft.py; qlora needs
``load_in_4bit``, and neither ``load_in_8bit`` nor a full run with quantized weights is taken.
"""

from __future__ import annotations

from dataclasses import replace

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.adapters import expected
from memplan.dialects.trainer.adapting import quantizes, spell
from memplan.domain.architecture import Architecture
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.host import ActivationOffload
from memplan.domain.workload import Adapter, Workload

_BESIDE = ("adapter", "micro_batch_size", "sequence_len", "base_model")


def adapter(reading: Reading, after: Workload) -> list[Edit]:
    """Edits for another adapter, or for one where there was none.

    Raises:
        EditRefusedError: the adapter is given up, or differs in what has no key.
    """
    wanted, before = after.adapter, reading.workload.adapter
    if wanted is None:
        if before is None:
            return []
        raise EditRefusedError("training all parameters instead of an adapter is a decision for a person")
    usual = expected(reading, after)
    if replace(wanted, rank=usual.rank, targets=usual.targets, dropout=usual.dropout) != usual:
        raise EditRefusedError("of an adapter its rank, targets and dropout are written")
    if before is None and reading.workload.activation_offload is not ActivationOffload.NONE:
        raise EditRefusedError("activation offloading replaces checkpointing of adapters: turn it off first")
    written = [] if before is not None else _kind(reading, after)
    if before is None or wanted.rank != before.rank:
        written += put(reading, ("lora_r",), wanted.rank, _BESIDE)
    if before is None and _keys(reading).get("lora_alpha") is None:
        written += put(reading, ("lora_alpha",), 2 * wanted.rank, _BESIDE)
    if wanted.dropout != usual.dropout:
        written += put(reading, ("lora_dropout",), wanted.dropout, _BESIDE)
    return written + _targets(reading, wanted, before)


def quantization(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``load_in_4bit``, and of ``adapter`` where it asks for plain LoRA so far."""
    if not quantizes(reading, after):
        return []
    wanted = ((("load_in_8bit",), False, False), (("load_in_4bit",), True, False))
    own = [] if reading.workload.adapter is None else _kind(reading, after)
    return own + spell(reading, wanted, _BESIDE)


def _kind(reading: Reading, after: Workload) -> list[Edit]:
    bits = after.quantization
    return put(reading, ("adapter",), "qlora" if bits and bits.kind == "nf4" else "lora", _BESIDE)


def _targets(reading: Reading, adapter: Adapter, before: Adapter | None) -> list[Edit]:
    if before is not None and adapter.targets == before.targets:
        return []
    model = reading.workload.model
    if isinstance(model, Architecture) and adapter.targets == model.linears:
        return put(reading, ("lora_target_linear",), True, _BESIDE)
    written = put(reading, ("lora_target_modules",), list(adapter.targets), _BESIDE)
    if _keys(reading).flag("lora_target_linear"):
        written += put(reading, ("lora_target_linear",), False, _BESIDE)
    return written


def _keys(reading: Reading) -> Keys:
    document = reading.document
    return Keys(root=Value(source=document.source, key="", node=document.root), lenient=True)
