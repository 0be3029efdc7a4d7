"""What a layer of PyTorch allocates, found by running it once and looking at every operation's result."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from memplan.domain.errors import InputError
from memplan.mechanisms.context.placement import Layer


def layer_cost(layer: nn.Module, example: Tensor) -> Layer:
    """The bytes a layer allocates, operation by operation, and the operations of its forward pass.

    Three forward passes and a backward pass run on the device of the example. On ``meta`` nothing is computed
    and no memory is taken, but operations that choose a kernel by device, as attention does, choose another.
    Scratch memory inside kernels is not seen. Gradients of parameters are made anew, as after
    ``zero_grad(set_to_none=True)``; the layer and its gradients stay as they are.

    Args:
        layer: takes the hidden states alone and gives one tensor, and saves its input for backward.
        example: hidden states, ``(batch, tokens, channels)``.

    Returns:
        Its figures; ``recompute`` in floating-point operations of matrix products and attention.

    Raises:
        InputError: the layer does not run on the example, or gives no tensor with a gradient.
    """
    hidden = torch.empty_like(example).copy_(example.detach()).requires_grad_()
    tensors = _on(layer, hidden.device)
    passing, _ = _hooked(layer, tensors, hidden, keeping=False)
    _, again = _hooked(layer, tensors, hidden, keeping=True)
    live = _Live()
    with torch.enable_grad(), torch.device(hidden.device), live:
        output, operations = _forward(layer, tensors, hidden)
        # The output is the next layer's input, which counts it.
        forward, saved = live.highest, live.now - output.untyped_storage().nbytes()
        end = _End.apply(output)
        del output
        live.highest = live.now
        end.backward()
    # The loss and its gradient are none of the layer's.
    backward = live.highest - 2 * end.nbytes
    if hidden.grad is None:
        raise InputError(f"{type(layer).__name__} gives its input no gradient")
    return Layer(
        input=hidden.nbytes,
        saved=saved,
        forward=forward,
        backward=backward,
        gradients=sum(tensor.grad.nbytes for tensor in tensors.values() if tensor.grad is not None),
        recompute=operations,
        passing=passing,
        again=again,
    )


def _hooked(
    layer: nn.Module, tensors: dict[str, Tensor], hidden: Tensor, *, keeping: bool
) -> tuple[int, int]:
    """The most bytes of a forward pass, and until the last tensor is saved; if not ``keeping``, none is.

    Non-reentrant checkpoints do it with the same hooks (``torch.utils.checkpoint._checkpoint_hook`` and
    ``_recomputation_hook``): the first pass drops what is saved, the second stops when it has all.
    """
    live = _Live()
    last = 0

    def pack(tensor: Tensor) -> Tensor | None:
        nonlocal last
        last = live.highest
        return tensor if keeping else None

    with (
        torch.enable_grad(),
        torch.device(hidden.device),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept),
        live,
    ):
        _forward(layer, tensors, hidden)
    return live.highest, last


def random_state() -> int:
    """Bytes of the state of the CPU's random generator, which every checkpoint keeps."""
    return int(torch.get_rng_state().nbytes)


class _End(torch.autograd.Function):  # type: ignore[misc]
    """Where backward begins: gives the gradient of its input to nobody but the graph."""

    @staticmethod
    def forward(ctx: Any, output: Tensor) -> Tensor:
        ctx.shape = output.shape
        return output.new_zeros(())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.new_zeros(ctx.shape)


def _on(layer: nn.Module, device: torch.device) -> dict[str, Tensor]:
    """The layer's tensors with gradients of their own; on ``meta`` without memory."""
    found = {}
    for name, tensor in layer.named_parameters():
        there = tensor.detach() if tensor.device == device else torch.empty_like(tensor, device=device)
        found[name] = there.detach().requires_grad_(tensor.requires_grad)
    for name, tensor in layer.named_buffers():
        there = torch.empty_like(tensor, device=device)
        found[name] = there.copy_(tensor) if tensor.device == device else there
    return found


def _forward(layer: nn.Module, tensors: dict[str, Tensor], hidden: Tensor) -> tuple[Tensor, int]:
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            output = functional_call(layer, tensors, (hidden,))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{type(layer).__name__} does not run on {tuple(hidden.shape)} of {hidden.dtype}: {error}"
        ) from error
    if not isinstance(output, Tensor) or not output.requires_grad:
        raise InputError(
            f"{type(layer).__name__} gives no tensor with a gradient", expected="hidden states, as it takes"
        )
    return output, int(counter.get_total_flops())


class _Live(TorchDispatchMode):  # type: ignore[misc]
    """Counts the bytes of storages that operations make, until they are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.highest = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._note(tensor, 0)
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor, tensor.untyped_storage().nbytes())
        return result

    def _note(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        self._known.add(storage._cdata)
        self.now += size
        self.highest = max(self.highest, self.now)
        weakref.finalize(storage, self._drop, storage._cdata, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
