"""The tensors of a component at the peak: what they are, why they are alive, what would free them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memplan.domain.architecture import Architecture
from memplan.domain.estimate import Estimate
from memplan.domain.trace import Phase
from memplan.domain.workload import Workload
from memplan.estimate.story import Held, Story
from memplan.reporters.blocks import Block, Bullets, Paragraph, Table
from memplan.reporters.remedies import remedies
from memplan.reporters.words import size

LARGEST = 6
"""Kinds of tensors shown of a component in the whole story."""


def moment(estimate: Estimate, story: Story | None) -> Paragraph:
    """When the peak is, and the allocation that makes it."""
    phase = estimate.host.peak_phase if estimate.on_host else estimate.device.peak_phase
    told = f"The peak is in the {phase} phase"
    if story is not None and story.tag is not None:
        told += f", as {_name(story.tag)} {_shape(story.tag)} is made"
    if story is None:
        return Paragraph(f"{told}. Alive at that moment:")
    return Paragraph(
        f"{told}. Alive at that moment, each until what is named (ops of backward need what was saved):"
    )


def largest(held: Sequence[Held]) -> Iterator[Block]:
    """The largest kinds of tensors of a component, and how much the others are."""
    rows = tuple(
        (f"{_name(item.tag)} {_shape(item.tag)}", str(item.count), size(item.bytes), until(item))
        for item in held[:LARGEST]
    )
    yield Table(columns=("tensors", "count", "size", "alive until"), align="<>><", rows=rows)
    others = held[LARGEST:]
    if others:
        amount = size(sum(item.bytes for item in others))
        kinds = "kind" if len(others) == 1 else "kinds"
        yield Paragraph(f"and {len(others)} more {kinds} of tensors, {amount}")


def arithmetic(held: Sequence[Held]) -> Table:
    """Every kind of tensor of a component with the product that is its size."""
    rows = [
        (f"{_name(item.tag)} {item.tag[4]}", _product(item), size(item.bytes), until(item)) for item in held
    ]
    total = ("sum", "", size(sum(item.bytes for item in held)), "")
    return Table(
        columns=("tensors", "count × shape × bytes", "size", "alive until"),
        align="<>><",
        rows=(*rows, total),
        strong=frozenset({len(rows)}),
    )


def factors(workload: Workload) -> Paragraph:
    """The values that shapes are made of."""
    shape = workload.model
    values = {"batch.micro": workload.batch.micro, "sequence.length": workload.sequence.length}
    if isinstance(shape, Architecture):
        values |= {
            "hidden_size": shape.hidden_size,
            "intermediate_size": shape.intermediate_size,
            "vocab_size": shape.vocab_size,
        }
    named = ", ".join(f"{name} {value}" for name, value in values.items())
    return Paragraph(f"Shapes are made of {named}; 1 GiB is 1024 × 1024 × 1024 B.")


def freeing(component: str, estimate: Estimate) -> Iterator[Block]:
    """What would free a component."""
    found = remedies(component, estimate.workload, estimate.device.peak_phase)
    if found:
        lines = tuple(
            f"--set '{item.setting}': {item.effect}"
            + (f" (memplan fit plans it: {item.lever})" if item.lever else "")
            for item in found
        )
        yield Bullets(lines, "What would free it:")


def until(item: Held) -> str:
    """What a kind of tensors waits for, in words."""
    if item.next_step:
        return "the next step begins"
    if item.release is None:
        return "the run ends"
    release = item.release
    if release.phase is Phase.OPTIMIZER:
        return "the optimizer's step is done"
    where = "" if release.scope in (item.tag[1], release.phase) else f" of {release.scope}"
    return f"{release.phase}: {release.op}{where}"


def _name(tag: tuple[str, str, str, object, object]) -> str:
    return f"{tag[1]} {tag[2]}".lstrip()


def _shape(tag: tuple[str, str, str, tuple[int, ...], object]) -> str:
    return f"({', '.join(map(str, tag[3]))}) {tag[4]}"


def _product(item: Held) -> str:
    shape, dtype = item.tag[3], item.tag[4]
    return " × ".join(map(str, (*([item.count] if item.count > 1 else []), *shape, dtype.itemsize))) + " B"
