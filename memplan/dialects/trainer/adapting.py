"""What a framework would make of adapters that its file does not ask for yet, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from memplan.dialects.fields import Value
from memplan.dialects.keys import Keys
from memplan.dialects.reading import Reading
from memplan.dialects.table import Writer, put
from memplan.dialects.trainer.adapters import LoraKeys, lora
from memplan.dialects.trainer.arguments import Names
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.edit import Edit
from memplan.domain.errors import EditRefusedError, FieldError
from memplan.domain.workload import Adapter, Quantization, Workload

Spelling = tuple[Names, Any, Any]
"""Keys, the value they should have, and what holds without them."""


def aside(keys: Keys) -> Keys:
    """The same values, for questions that leave no origins and no warnings."""
    return Keys(root=keys.root, lenient=keys.lenient)


def plain(keys: Keys, names: LoraKeys, shape: Architecture, dtype: Dtype = Dtype.FP32) -> Adapter | None:
    """The adapter that a file would ask for, on all linear layers and without dropout unless it names one.

    None where what it says of adapters is wrong, or the model has no layers for them.
    """
    everywhere = replace(names, targets=(), targets_default=("all",), dropout_default=0.0)
    try:
        return lora(aside(keys), everywhere, shape, dtype) if shape.linears else None
    except FieldError:
        return None


def four_bits(compute: Dtype) -> Quantization:
    """NF4 with quantized scales, as the QLoRA paper has it (Dettmers et al., arXiv:2305.14314, §3)."""
    return Quantization(kind="nf4", double=True, compute=compute)


def quantizes(reading: Reading, after: Workload) -> bool:
    """Whether a plan quantizes weights in the way that the framework is known to.

    Raises:
        EditRefusedError: it changes quantization in another way.
    """
    if after.quantization == reading.workload.quantization:
        return False
    habits = reading.workload.adapting
    if habits is None or habits.quantization is None or after.quantization != habits.quantization:
        raise EditRefusedError("of quantization only 4-bit weights under adapters are written")
    if after.adapter is None:
        raise EditRefusedError("weights in 4 bits are trained only with adapters")
    return True


def frozen(hint: str, reading: Reading, after: Workload) -> list[Edit]:
    """Nothing is written: weights have another dtype as soon as they are frozen, which ``hint`` explains.

    Raises:
        EditRefusedError: a dtype changes for another reason, or does not change with what is trained.
    """
    before, run = reading.workload.precision, reading.workload
    new = run.adapter is None and after.adapter is not None
    due = replace(before, params=run.adapting.params) if new and run.adapting is not None else before
    if after.precision != due:
        raise EditRefusedError(hint)
    return []


def spell(reading: Reading, wanted: Iterable[Spelling], beside: Sequence[str]) -> list[Edit]:
    """Edits that make keys hold values; a key that is absent stays so where its default is the value."""
    found: list[Edit] = []
    document = reading.document
    keys = Keys(root=Value(source=document.source, key="", node=document.root), lenient=True)
    for names, value, default in wanted:
        if keys.has(*names) or value != default:
            found += put(reading, names, value, beside)
    return found


def together(writers: Mapping[str, Writer], *units: str) -> dict[str, Writer]:
    """The writers, where each of some units is refused if another is: half an adapter is worse than none."""

    def checked(own: Writer) -> Writer:
        def write(reading: Reading, after: Workload) -> list[Edit]:
            for unit in units:
                writers[unit](reading, after)
            return own(reading, after)

        return write

    return dict(writers) | {unit: checked(writers[unit]) for unit in units}
