"""Adapters and 4-bit weights as oumi spells them: ``training.use_peft`` and the section ``peft``.

Source: ``PeftParams`` in src/oumi/core/configs/params/peft_params.py (0.9).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memplan.dialects.oumi.vocabulary import LORA
from memplan.dialects.reading import Reading
from memplan.dialects.table import put
from memplan.dialects.trainer.adapters import expected
from memplan.dialects.trainer.adapting import quantizes, spell
from memplan.documents.tree import MappingNode
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload

_NAMES = {Dtype.BF16: "bfloat16", Dtype.FP16: "float16", Dtype.FP32: "float32"}
_SECTION = "peft"


def adapter(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``peft``; targets are a list, also for all linear layers. A missing section comes as a whole.

    Raises:
        EditRefusedError: the adapter is given up, or differs in what has no key.
    """
    wanted, before = after.adapter, reading.workload.adapter
    if wanted == before:
        return []
    if wanted is None:
        raise EditRefusedError("training all parameters instead of an adapter is a decision for a person")
    usual = expected(reading, after)
    if replace(wanted, rank=usual.rank, targets=usual.targets, dropout=usual.dropout) != usual:
        raise EditRefusedError("of an adapter its rank, targets and dropout are written")
    if before is None and reading.workload.adapting is None:
        raise EditRefusedError(
            "under FSDP an adapter has more to it than its keys: set training.use_peft by hand"
        )
    values: dict[str, Any] = {}
    if before is None or wanted.rank != before.rank:
        values["lora_r"] = wanted.rank
    if before is None:
        values["lora_alpha"] = 2 * wanted.rank
    if wanted.dropout != (before or usual).dropout:
        values["lora_dropout"] = wanted.dropout
    if before is None or wanted.targets != before.targets:
        values["lora_target_modules"] = list(wanted.targets)
    if before is not None:
        return _into(reading, values)
    switched = put(reading, LORA.switch, True, ("trainer_type",))
    return switched + _into(reading, values | _bits(reading, after))


def quantization(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``peft.q_lora`` and what goes with it; of a new section the adapter writes these."""
    if not quantizes(reading, after) or reading.workload.adapter is None:
        return []
    return _into(reading, _bits(reading, after))


def _bits(reading: Reading, after: Workload) -> dict[str, Any]:
    if not quantizes(reading, after) or after.quantization is None:
        return {}
    return {
        "q_lora": True,
        "bnb_4bit_quant_type": "nf4",
        "use_bnb_nested_quant": True,
        "bnb_4bit_compute_dtype": _NAMES[after.quantization.compute],
    }


def _into(reading: Reading, values: Mapping[str, Any]) -> list[Edit]:
    root = reading.document.root
    section = root.get(_SECTION) if isinstance(root, MappingNode) else None
    if not isinstance(section, MappingNode) or not section.items:
        return put(reading, (_SECTION,), dict(values)) if values else []
    beside = tuple(f"{_SECTION}.{name}" for name in ("lora_r", "lora_alpha", "q_lora"))
    bits = [((f"{_SECTION}.q_lora_bits",), 4, 4)] if "q_lora" in values else []
    wanted = [((f"{_SECTION}.{name}",), value, None) for name, value in values.items()]
    return spell(reading, [*wanted, *bits], beside)
