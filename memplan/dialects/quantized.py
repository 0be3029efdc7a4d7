"""Models whose files are quantized: transformers loads them so, whatever the run's own config leaves unsaid.

``quantization_config`` of a model's ``config.json`` decides (``get_hf_quantizer`` in transformers
quantizers/auto.py); its defaults are those of ``BitsAndBytesConfig`` (utils/quantization_config.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.dialects.reading import Origin, Reading
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Quantization, Unmodelled

UNPACKED = ("mxfp4",)
"""Layouts that families know: training unpacks them."""

_STATED_ELSEWHERE = ("native",)
"""Dialects that say themselves whether weights are quantized."""


def as_published(reading: Reading) -> Reading:
    """The reading with the quantization its model was published in, where the config asks for none."""
    workload, shape = reading.workload, reading.workload.model
    if not isinstance(shape, Architecture) or reading.dialect in _STATED_ELSEWHERE:
        return reading
    config = shape.config.get("quantization_config")
    if not isinstance(config, Mapping) or workload.quantization or workload.framework.code != "transformers":
        return reading
    method = str(config.get("quant_method", "bitsandbytes" if _bits(config) else "unknown"))
    if method in UNPACKED:
        return reading
    found = _bitsandbytes(config) if method == "bitsandbytes" else None
    if found is None:
        gap = Unmodelled(
            reason=f"the model is published in {method}, its weights are counted unquantized",
            shrinks=("blocks",),
            grows=("temporaries",),
        )
        return replace(reading, workload=replace(workload, unmodelled=(*workload.unmodelled, gap)))
    origins = dict(reading.origins)
    origins["quantization"] = Origin(how="default", note="the model's files are quantized")
    return replace(reading, workload=replace(workload, quantization=found), origins=origins)


def _bits(config: Mapping[str, object]) -> bool:
    return bool(config.get("load_in_4bit") or config.get("load_in_8bit"))


def _bitsandbytes(config: Mapping[str, object]) -> Quantization | None:
    compute = _dtype(config.get("bnb_4bit_compute_dtype"))
    if config.get("load_in_4bit"):
        kind = str(config.get("bnb_4bit_quant_type") or "fp4")
        double = bool(config.get("bnb_4bit_use_double_quant"))
        return Quantization(kind=kind, double=double, compute=compute) if kind in ("nf4", "fp4") else None
    return Quantization(kind="int8", compute=compute) if config.get("load_in_8bit") else None


def _dtype(named: object) -> Dtype:
    try:
        return Dtype.parse(named) if isinstance(named, str) else Dtype.FP32
    except ValueError:
        return Dtype.FP32
