"""Adapters and 4-bit weights as TRL's ``ModelConfig`` spells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from memplan.dialects.reading import Reading
from memplan.dialects.table import Writer, put
from memplan.dialects.trainer.adapting import quantizes, spell, together
from memplan.dialects.trl.releases import LATEST, Release
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError
from memplan.domain.workload import Workload

_NAMES = {Dtype.BF16: "bfloat16", Dtype.FP16: "float16", Dtype.FP32: "float32"}
_BESIDE = ("use_peft", "attn_implementation", "model_name_or_path")


def adopting(found: Mapping[str, Writer], spoken: Release) -> dict[str, Writer]:
    """The writers with those of quantized weights, and of the dtype that these compute in."""
    own: dict[str, Writer] = {
        "quantization": _quantization,
        "precision": partial(_precision, spoken),
        "host": partial(_host, found.get("host")),
    }
    return together(dict(found) | own, "adapter", *own)


def _quantization(reading: Reading, after: Workload) -> list[Edit]:
    """Edits of ``load_in_4bit`` and what bitsandbytes is told (TRL's ``get_quantization_config``)."""
    if not quantizes(reading, after):
        return []
    wanted = (
        (("load_in_8bit",), False, False),
        (("load_in_4bit",), True, False),
        (("bnb_4bit_quant_type",), "nf4", "nf4"),
        (("use_bnb_nested_quant",), True, False),
    )
    return spell(reading, wanted, _BESIDE)


def _precision(spoken: Release, reading: Reading, after: Workload) -> list[Edit]:
    """Edits of the dtype that a model is loaded in, together with quantization that computes in it.

    Raises:
        EditRefusedError: it changes alone, or another precision does.
    """
    before, wanted, habits = reading.workload.precision, after.precision, reading.workload.adapting
    along = after.quantization != reading.workload.quantization and habits is not None
    frozen = reading.workload.adapter is None and after.adapter is not None
    loaded = habits.params if frozen and habits is not None else before.params
    beside = (habits.quantized_params or loaded) if along and habits is not None else loaded
    due = replace(before, params=beside)
    if wanted != due or wanted.params not in _NAMES:
        raise EditRefusedError("of precision only the dtype that 4-bit weights compute in is written")
    if not along or wanted.params is loaded:
        return []
    names = ("dtype",) if spoken is LATEST else ("torch_dtype", "dtype")
    return put(reading, names, _NAMES[wanted.params], ("model_name_or_path",))


def _host(write: Writer | None, reading: Reading, after: Workload) -> list[Edit]:
    """Edits of the rest of the host: how weights come in follows from whether they are quantized.

    Raises:
        EditRefusedError: they are to come in another way, or nothing else of the host is written.
    """
    run, habits = reading.workload, reading.workload.adapting
    along = after.quantization != run.quantization and habits is not None
    due = (habits.quantized_loading if along and habits is not None else None) or run.host.loading
    rest = after.changed("host.loading", run.host.loading)
    if after.host.loading != due or (write is None and rest.host != run.host):
        raise EditRefusedError("how weights come in follows from whether they are quantized")
    return [] if write is None else write(reading, rest)
