"""Findings about what a config asks of a GPU that the hardware has not got, and what to write instead.

A framework that leaves it to the GPU takes bf16 as well: ``torch.cuda.is_bf16_supported`` counts emulation.
"""

from __future__ import annotations

from collections.abc import Iterator

from memplan.dialects import renewal
from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Document, Reading
from memplan.documents.tree import SequenceNode
from memplan.domain.errors import Location
from memplan.domain.finding import Finding, Level
from memplan.domain.hardware import BF16, FLASH, FP8, Lack, lacking
from memplan.domain.target import Target
from memplan.domain.workload import Workload

CODE = "MP005"
FP8_SINCE = (8, 9)
"""Ada and Hopper were the first with fp8."""

_GENERATIONS = {(8, 0): "Ampere", (8, 9): "Ada"}
_TRAINER = "fp16: true and bf16: false (the Trainer scales its loss)"
_HALF = {
    "native": "precision: {params: fp32, autocast: fp16}",
    "hf_trainer": _TRAINER,
    "trl": _TRAINER,
    "llamafactory": _TRAINER,
    "axolotl": _TRAINER,
    "ms_swift": "fp16: true, bf16: false and torch_dtype: float16",
    "litgpt": "precision: 16-mixed",
    "nanogpt": "dtype = 'float16'",
    "torchtune": "dtype: fp32 (its recipes refuse fp16)",
    "accelerate": "mixed_precision: fp16",
    "deepspeed": "fp16: {enabled: true} in place of bf16",
}
"""How each dialect asks for fp16 with a loss that is scaled so that small gradients survive."""

_FP8_KEYS = {
    "accelerate": "mixed_precision",
    "axolotl": "fp8",
    "llamafactory": "fp8",
    "torchtitan": "model.converters",
    "torchtune": "enable_fp8_training",
}
"""The key of each dialect that asks for products in fp8."""


def findings(
    reading: Reading, target: Target | None, workload: Workload | None = None
) -> tuple[Finding, ...]:
    """What the target's GPU has not got of what a config asks for, each an error at its key.

    ``workload`` is what a plan makes of the config's own, which it stands in for.
    """
    return () if target is None else tuple(_findings(reading, target, workload or reading.workload))


def every(reading: Reading, target: Target | None, workload: Workload | None = None) -> tuple[Finding, ...]:
    """What reading a config found, what the target's GPU has not got, and what is made anew for nothing."""
    return (
        *reading.findings,
        *findings(reading, target, workload),
        *renewal.findings(reading, workload),
    )


def _findings(reading: Reading, target: Target, workload: Workload) -> Iterator[Finding]:
    for lack in lacking(workload, target):
        yield _finding(target, lack, _place(reading, lack.fields), _instead(reading, lack))
    place = None if target.fp8 is not False else _fp8(reading)
    if place is not None:
        lack = Lack(what=FP8, since=FP8_SINCE, fields=())
        yield _finding(target, lack, place, "train in bf16, or in fp16 where there is no bf16")


def _finding(target: Target, lack: Lack, place: Location, instead: str) -> Finding:
    capability, since = (_dotted(pair) for pair in (target.compute_capability, lack.since))
    return Finding(
        path=place.path,
        line=place.line,
        code=CODE,
        level=Level.ERROR,
        message=f"{target.name} (compute capability {capability}) has no {lack.what}, which needs {since}",
        fix=f"{instead}, or choose a GPU from {_GENERATIONS[lack.since]} on",
    )


def _instead(reading: Reading, lack: Lack) -> str:
    if lack.what == FLASH:
        return "use sdpa attention"
    spelled = _HALF.get(reading.dialect)
    return f"train in fp16: {spelled}" if lack.what == BF16 and spelled else "train in fp16"


def _place(reading: Reading, fields: tuple[str, ...]) -> Location:
    """Where the first of these fields that is written anywhere stands; else the head of the config."""
    for field in (*fields, "model"):
        origin = reading.origins.get(field)
        if origin is not None and origin.location is not None:
            return origin.location
    return Location(path=reading.document.source.path, line=1)


def _fp8(reading: Reading) -> Location | None:
    """Where any file of the job asks for fp8."""
    documents: list[tuple[str, Document]] = [(reading.dialect, reading.document)]
    documents += [(companion.dialect, companion.document) for companion in reading.companions]
    for dialect, document in documents:
        name = _FP8_KEYS.get(dialect)
        value = _keys(document).get(name) if name is not None else None
        if value is not None and _asks(value):
            return value.location
    return None


def _keys(document: Document) -> Keys:
    return Keys(root=Value(source=document.source, key="", node=document.root), lenient=True)


def _asks(value: Value) -> bool:
    """``true``, ``fp8``, or a list with a converter to float8."""
    if isinstance(value.node, SequenceNode):
        return any("float8" in item.written() for item in value.items())
    return value.written().lower() in ("true", "yes", "on", "1", "fp8")


def _dotted(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"
