"""Adapters and 4-bit weights as ms-swift spells them (``QuantizeArguments`` in swift/arguments, 4.6)."""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.ms_swift.vocabulary import LORA, TUNER
from memplan.dialects.reading import Reading
from memplan.dialects.trainer import adapters
from memplan.dialects.trainer.adapting import quantizes, spell
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload

_NAMES = {Dtype.BF16: "bfloat16", Dtype.FP16: "float16", Dtype.FP32: "float32"}
_BESIDE = (*TUNER, "model")


def adapter(reading: Reading, after: Workload) -> list[Edit]:
    """Edits for another adapter; ``tuner_type`` names the kind.

    Raises:
        EditRefusedError: the adapter is given up, differs in what has no key, or is another tuner.
    """
    document = reading.document
    keys = Keys(root=Value(source=document.source, key="", node=document.root), lenient=True)
    if after.adapter != reading.workload.adapter and keys.word(*TUNER) not in (None, "lora", "full"):
        raise EditRefusedError("of tuners LoRA is written")
    return adapters.write(LORA, reading, after)


def quantization(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``quant_method``, ``quant_bits``, and what bitsandbytes computes in where it isn't usual."""
    if not quantizes(reading, after) or after.quantization is None:
        return []
    usual = Dtype.BF16 if after.precision.params is Dtype.BF16 else Dtype.FP32
    wanted = (
        (("quant_method",), "bnb", None),
        (("quant_bits",), 4, None),
        (("bnb_4bit_quant_type",), "nf4", "nf4"),
        (("bnb_4bit_use_double_quant",), True, True),
        (("bnb_4bit_compute_dtype",), _NAMES[after.quantization.compute], _NAMES[usual]),
    )
    return spell(reading, wanted, _BESIDE)
