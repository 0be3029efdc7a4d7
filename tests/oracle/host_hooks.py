"""Saved-tensor hooks whose host is the meta device: what is sent away takes no memory that a CPU run sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.oracle.libraries import library

torch = library("torch")
Hooks: Any = torch.autograd.graph.saved_tensors_hooks

SMALLEST = 1024
STASH = 5


class SaveOnHost(Hooks):  # type: ignore[misc]
    """PyTorch's ``save_on_cpu(pin_memory=True)``: everything goes, and comes back row-major."""

    def __init__(self, **_: Any) -> None:
        super().__init__(
            lambda tensor: torch.empty(tensor.size(), dtype=tensor.dtype, device="meta"),
            lambda away: torch.zeros(away.size(), dtype=away.dtype),
        )


class Keep(Hooks):  # type: ignore[misc]
    """Hooks that do nothing, for the LM head."""

    def __init__(self) -> None:
        super().__init__(lambda tensor: tensor, lambda tensor: tensor)


class OffloadActivations(Hooks):  # type: ignore[misc]
    """What TRL's class of this name keeps, sends and holds, without copies and CUDA streams."""

    def __init__(self, model: Any, *, streams: bool) -> None:
        self.parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
        self.streams = streams
        self.count = 0
        self.stash: dict[int, Any] = {}
        self.returned: dict[int, Any] = {}
        self.node: Any = None
        keep = Keep()
        model.get_output_embeddings().register_forward_pre_hook(lambda *_: keep.__enter__())
        model.get_output_embeddings().register_forward_hook(lambda *_: keep.__exit__())
        super().__init__(self.pack, self.unpack)

    def pack(self, tensor: Any) -> Any:
        self.count += 1
        storage = tensor.untyped_storage().data_ptr()
        if any(held.untyped_storage().data_ptr() == storage for held in self.stash.values()):
            return self.count, tensor
        if tensor.nbytes < SMALLEST or storage in self.parameters:
            return self.count, tensor
        for number in [number for number in self.stash if number <= self.count - STASH]:
            del self.stash[number]
        if not tensor.is_contiguous():
            tensor = tensor.contiguous()
        if self.streams:
            self.stash[self.count] = tensor
        return self.count, torch.empty_like(tensor, device="meta")

    def unpack(self, packed: Any) -> Any:
        number, tensor = packed
        if not tensor.is_meta:
            return tensor
        if not self.streams:
            return torch.zeros_like(tensor, device="cpu")
        node = torch._C._current_autograd_node()
        passing = [] if node == self.node else list(self.returned)
        if self.node is None:
            torch.autograd.Variable._execution_engine.queue_callback(self.over)
        self.node = node
        found = self.stash.get(number)
        if found is None:
            found = self.returned[number] = torch.zeros_like(tensor, device="cpu")
        node.register_hook(self.after(passing))
        return found

    def after(self, passing: list[int]) -> Callable[[Any, Any], None]:
        def hook(_outputs: Any, _inputs: Any) -> None:
            self.stash.clear()
            for number in passing:
                self.returned.pop(number, None)

        return hook

    def over(self) -> None:
        self.returned.clear()
        self.node = None
