"""Torch tensors in place of declared ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Any

import torch

from memplan.domain.architecture import DeclaredModel, DeclaredTensor, Role
from memplan.domain.bytes import Bytes
from memplan.smoke.cuda import TORCH
from memplan.smoke.meter import Named


def stand_ins(model: DeclaredModel, place: str = "cpu", *, written: bool = False) -> Iterator[Named]:
    """A tensor for every declared one that has bytes, in the order in which they are declared.

    Args:
        place: where, as torch names devices.
        written: whether every page is written to, so that it is resident.
    """
    values = {name: value for name, value in model.values if isinstance(value, int)}
    for tensor, size in zip(model.tensors, model.sizes().values(), strict=True):
        if size:
            made = _made(tensor, [_side(side, values) for side in tensor.shape], size, place)
            if written:
                made.detach().fill_(1)
            yield made, tensor.name, tensor.name, str(tensor.role)


def first_beyond(model: DeclaredModel, budget: int | None) -> str | None:
    """The first tensor that would not fit a budget of bytes beside those before it; None if all do."""
    sizes = model.sizes()
    for name, used in zip(sizes, accumulate(sizes.values()), strict=True):
        if budget is not None and used > budget:
            return name
    return None


def before(model: DeclaredModel, name: str | None) -> DeclaredModel:
    """The tensors that are declared before one of them; all of them before None."""
    names = [tensor.name for tensor in model.tensors]
    kept = model.tensors if name is None else model.tensors[: names.index(name)]
    return DeclaredModel(tensors=kept, values=model.values)


def verified(model: DeclaredModel, room: Bytes | None = None) -> Iterator[tuple[str, bool]]:
    """What is proven when all of them were made, within ``room`` if that was bounded; and what is not."""
    size = Bytes(sum(model.sizes().values())).rounded()
    yield f"every tensor was made with its declared shape and element type: {size}", True
    if room is not None:
        yield f"they are within the {room.rounded()} that may be allocated", True
    yield "what the model does with them was not run", False


def _made(tensor: DeclaredTensor, sides: list[int], size: int, place: str) -> Any:
    """Of the declared shape and element type; of plain bytes, where bytes were declared as well or alone.

    A weight is a parameter: one of floating point numbers wants a gradient.
    """
    plain = not tensor.shape or tensor.fixed or tensor.per
    kind = torch.uint8 if plain else TORCH[tensor.dtype]
    made = torch.empty([size] if plain else sides, dtype=kind, device=place)
    if tensor.role is not Role.WEIGHT:
        return made
    return torch.nn.Parameter(made, requires_grad=made.is_floating_point())


def _side(side: int | str, values: dict[str, int]) -> int:
    return side if isinstance(side, int) else values[side]
