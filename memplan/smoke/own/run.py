"""A user's model, built, run forward and backward once, and watched."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves

from memplan.domain.bytes import Bytes
from memplan.domain.own_model import OwnModel, Shape
from memplan.domain.trace import Phase
from memplan.smoke.own.making import Making
from memplan.smoke.own.storages import Saved, Storages


class NoModelError(Exception):
    """What was named is there and gives no model."""


def run(file: Path, name: str, shapes: tuple[Shape, ...], *, fake: bool) -> OwnModel:
    """Build the model that ``name`` of a file gives, and run it; ``fake``: on tensors without bytes.

    Raises:
        Exception: whatever the user's code raises.
    """
    made = getattr(_module(file), name, None)
    if made is None:
        raise NoModelError(f"it has nothing called {name!r}")
    making = Making(folder=file.parent)
    storages = Storages(making)
    mode: AbstractContextManager[object] = (
        FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext()
    )
    with mode, storages, making.watching_modules():
        storages.enter(Phase.LOAD)
        model = made if isinstance(made, torch.nn.Module) else made()
        if not isinstance(model, torch.nn.Module):
            raise NoModelError(f"{name} gives {type(model).__name__}, which is no torch.nn.Module")
        storages.enter(Phase.FORWARD)
        given = [(shape.name, _input(shape)) for shape in shapes]
        known = [*model.parameters(), *model.buffers(), *(tensor for _, tensor in given)]
        saved = Saved(known)
        with saved_tensors_hooks(saved.pack, saved.unpack):
            plain = [tensor for named, tensor in given if not named]
            result = model(*plain, **{named: tensor for named, tensor in given if named})
        loss = _loss(result)
        if loss is not None:
            storages.enter(Phase.BACKWARD)
            loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return OwnModel(
        count=sum(parameter.numel() for parameter in model.parameters()),
        parameters=_bytes(model.parameters()),
        buffers=_bytes(model.buffers()),
        gradients=_bytes(gradients),
        saved=Bytes(saved.bytes),
        phases=tuple((phase, Bytes(size)) for phase, size in storages.phases.items()),
        allocations=making.allocations(),
        findings=making.findings(shapes),
    )


def _module(file: Path) -> Any:
    """Import a file as if it were run where it lies."""
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module


def _input(shape: Shape) -> Any:
    """Zeros where numbers may be indices."""
    dtype = getattr(torch, shape.dtype)
    return (
        torch.zeros(shape.sides, dtype=dtype)
        if not dtype.is_floating_point
        else torch.rand(shape.sides).to(dtype)
    )


def _loss(result: Any) -> Any:
    """The result's own loss, else the sum of everything in it that has a gradient; None if nothing has."""
    own = result.get("loss") if isinstance(result, dict) else getattr(result, "loss", None)
    if isinstance(own, torch.Tensor) and own.requires_grad:
        return own.sum()
    found = [leaf.sum() for leaf in _tensors(result)]
    return torch.stack(found).sum() if found else None


def _tensors(result: Any) -> Iterator[Any]:
    leaves = tree_leaves(dict(result) if isinstance(result, dict) else result)
    return (leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad)


def _bytes(tensors: Any) -> Bytes:
    found = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return Bytes(sum(found.values()))
