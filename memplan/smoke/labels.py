"""Names for what is allocated: the module it is made in, and the component it counts to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch.nn.modules import module as hooks

from memplan.domain.architecture import ParameterGroup

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_WRAPPERS = ("base_model.model.", "model.", "default.")


class Names(Protocol):
    """The modules that run, innermost last."""

    def append(self, name: str, /) -> None:
        """A module begins."""

    def pop(self) -> object:
        """The innermost is over."""


class Listener(Protocol):
    """Is told which module runs, and when the head and the loss begin."""

    @property
    def scope(self) -> Names:
        """The modules that run."""

    def enter_head(self) -> None:
        """The head begins: what follows in this forward pass are logits and loss."""

    def enter_loss(self) -> None:
        """The loss begins."""


class Labels:
    """The names of one model's modules and parameters."""

    def __init__(self, model: Any, groups: tuple[ParameterGroup, ...]) -> None:
        self.model = model
        self.groups = groups
        self.inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.head = _head(self.inner)
        self.names = {id(module): plain(name) for name, module in model.named_modules()}

    def parameters(self) -> Iterator[tuple[Any, str, str]]:
        """Every parameter with its component and its name, once."""
        table = getattr(self.inner.get_input_embeddings(), "weight", None)
        matrix = getattr(self.inner.get_output_embeddings(), "weight", None)
        for name, parameter in self.model.named_parameters():
            if parameter is table:
                component = "embeddings"
            elif parameter is matrix:
                component = "decoder_matrix"
            else:
                component = "adapter" if ".lora_" in name else self._component(plain(name), parameter)
            yield parameter, component, plain(name)

    def buffers(self) -> Iterator[tuple[Any, str, str]]:
        """Every buffer with the component of the parameters it lies beside, and its name."""
        components = {name: component for _, component, name in self.parameters()}
        for name, buffer in self.model.named_buffers():
            short = plain(name)
            beside = f"{short.rpartition('.')[0]}."
            found = (part for parameter, part in components.items() if parameter.startswith(beside))
            yield buffer, next(found, "blocks"), short

    def _component(self, name: str, parameter: Any) -> str:
        """The component that the simulated model counts a parameter to: by its name there, or its shape."""
        named = [group for group in self.groups if f".{name}".endswith(f".{group.name}")]
        alike = [group for group in self.groups if group.shape == tuple(parameter.shape)]
        found = {group.component for group in named or alike}
        return found.pop() if len(found) == 1 else "blocks"


def _head(model: Any) -> Any:
    """The module whose results are the logits."""
    found = (getattr(model, name, None) for name in ("cls", "classifier"))
    return next((module for module in found if module is not None), None) or model.get_output_embeddings()


def plain(name: str) -> str:
    """A module's name as reports show it: without wrappers, and with a star for the layer's number."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return _NUMBER.sub("*", name).replace(".base_layer", "").replace(".default", "")


@contextmanager
def scopes(recorder: Listener, labels: Labels) -> Iterator[None]:
    """Keep the recorder's scope at the module that runs, and tell it when the head and the loss begin."""

    def enter(module: Any, _: Any) -> None:
        recorder.scope.append(labels.names.get(id(module), ""))
        if module is labels.head:
            recorder.enter_head()

    def leave(_: Any, __: Any, ___: Any) -> None:
        recorder.scope.pop()

    handles = (
        hooks.register_module_forward_pre_hook(enter),
        hooks.register_module_forward_hook(leave, always_call=True),
    )
    try:
        with _loss(labels.inner, recorder):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _loss(model: Any, recorder: Listener) -> Iterator[None]:
    """Announce the loss function that transformers' classes call by this name."""
    plain = getattr(model, "loss_function", None)
    if plain is None:
        yield
        return

    def announced(*args: Any, **kwargs: Any) -> Any:
        recorder.enter_loss()
        return plain(*args, **kwargs)

    model.loss_function = announced
    try:
        yield
    finally:
        model.loss_function = plain
