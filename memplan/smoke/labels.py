"""Names for what is allocated: the module it is made in, and the component it counts to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules import module as hooks

from memplan.smoke.recorder import Recorder

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_WRAPPERS = ("base_model.model.", "model.", "default.")


class Labels:
    """The names of one model's modules and parameters."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
        self.names = {id(module): plain(name) for name, module in model.named_modules()}

    def parameters(self) -> Iterator[tuple[Any, str, str]]:
        """Every parameter with its component and its name, once."""
        table = self.model.get_input_embeddings().weight
        matrix = self.head.weight if self.head is not None else None
        for name, parameter in self.model.named_parameters():
            if parameter is table:
                component = "embeddings"
            elif parameter is matrix:
                component = "decoder_matrix"
            else:
                component = "adapter" if ".lora_" in name else "blocks"
            yield parameter, component, plain(name)


def plain(name: str) -> str:
    """A module's name as reports show it: without wrappers, and with a star for the layer's number."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return _NUMBER.sub("*", name).replace(".base_layer", "").replace(".default", "")


@contextmanager
def scopes(recorder: Recorder, labels: Labels, on_head: Callable[[], None]) -> Iterator[None]:
    """Keep the recorder's scope at the module that runs; ``on_head`` is told when the head has run."""

    def enter(module: Any, _: Any) -> None:
        recorder.scope.append(labels.names.get(id(module), ""))
        if module is labels.head and not recorder.in_backward:
            recorder.component = "logits_and_loss"
            recorder.boundary = torch._C._autograd._get_sequence_nr()

    def leave(module: Any, _: Any, __: Any) -> None:
        recorder.scope.pop()
        if module is labels.head and not recorder.in_backward:
            on_head()

    handles = (
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
