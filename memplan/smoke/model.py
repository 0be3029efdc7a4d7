"""The real model of a workload: transformers' class and PEFT's adapters, on fake tensors.

It is built on the ``meta`` device, where nothing has bytes, and its tensors are then replaced by fake ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from memplan.domain.architecture import Architecture
from memplan.domain.errors import FieldError
from memplan.domain.workload import Attention, Checkpointing, Task, Workload
from memplan.smoke import quantized
from memplan.smoke.adapters import adapt
from memplan.smoke.cuda import TORCH
from memplan.smoke.losses import exchange

HEADS = {
    "bert": "BertForSequenceClassification",
    "vit": "ViTForImageClassification",
    "t5": "T5ForConditionalGeneration",
}
"""Classes of models that are no decoders, where ``architectures`` names none."""


def configuration(shape: Architecture, *, cached: bool = False) -> Any:
    """transformers' configuration object, from the ``config.json`` that the shape was read from.

    Without a key/value cache, unless it is ``cached``.

    Raises:
        FieldError: this version of transformers does not know the model type.
    """
    from transformers import AutoConfig

    settings = {key: value for key, value in shape.config.items() if key != "model_type"}
    try:
        if hasattr(AutoConfig.for_model(shape.model_type), "use_cache"):
            settings["use_cache"] = cached
    except ValueError as error:
        raise FieldError(
            f"the installed transformers has no model_type {shape.model_type!r}",
            hint="install a newer one: pip install -U transformers",
        ) from error
    return AutoConfig.for_model(shape.model_type, **settings)


def _class(shape: Architecture, configuration: Any) -> Any:
    """How to make the model: a decoder's class follows from the configuration, others are named."""
    import transformers

    if shape.model_type not in HEADS:
        return transformers.AutoModelForCausalLM.from_config
    named = configuration.architectures or (HEADS[shape.model_type],)
    return getattr(transformers, named[0])._from_config


def build(workload: Workload, *, late: bool = False) -> Any:
    """The model in training mode, on the meta device, with its adapters and its checkpointing.

    ``late`` leaves the adapters of a model that is ``changed_in_memory`` to ``filled``.

    Raises:
        FieldError: it has another number of parameters than the workload's.
    """
    shape = _shape(workload)
    # Left to itself, transformers takes SDPA where the model has it.
    kernel = {Attention.EAGER: "eager", Attention.SDPA: None}.get(workload.attention, "sdpa")
    with quietly(), torch.device("meta"):
        settings = configuration(shape, cached=workload.task is Task.GENERATE)
        model = _class(shape, settings)(
            settings, dtype=TORCH[workload.precision.params], attn_implementation=kernel
        )
        found = sum(parameter.numel() for parameter in model.parameters())
        if shape.groups and found != shape.parameters:
            raise FieldError(
                f"transformers' {type(model).__name__} has {found:,} parameters, not {shape.parameters:,}"
            )
        _checkpoint(model, workload.checkpointing)
        exchange(model, workload.loss)
        if workload.quantization is not None:
            return quantized.replaced(model, workload.quantization)
        return model if late and changed_in_memory(workload) else _adapted(model, workload)


def changed_in_memory(workload: Workload) -> bool:
    """Whether weights that were read become others: in few bits, or prepared for training beside such."""
    adapter = workload.adapter
    return workload.quantization is not None or (adapter is not None and adapter.prepare_kbit)


def _adapted(model: Any, workload: Workload) -> Any:
    return adapt(model, workload, causal=_shape(workload).model_type not in HEADS).train()


def filled(model: Any, workload: Workload) -> Any:
    """What ``build`` made ``late`` with random weights in real memory, loaded as transformers loads them.

    Returns:
        The model: itself, or one with adapters around it.
    """
    if workload.quantization is None:
        load(model)
        initialise(model)
    else:
        quantized.load(model, workload)
        with torch.no_grad(), quietly():
            model.init_weights()
    if not changed_in_memory(workload):
        return model
    with quietly():
        return _adapted(model, workload)


@contextmanager
def quietly() -> Iterator[None]:
    """What the libraries remark on a config has no place in a report on memory."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)


def _shape(workload: Workload) -> Architecture:
    assert isinstance(workload.model, Architecture)
    return workload.model


def _checkpoint(model: Any, wanted: Checkpointing) -> None:
    if not wanted.every:
        return
    # The generator's state is kept in host memory; fake tensors cannot give it back.
    model.gradient_checkpointing_enable({"use_reentrant": wanted.reentrant, "preserve_rng_state": False})
    layers = [module for module in model.modules() if _is_layer(module)]
    chosen = {index for region in wanted.regions(len(layers)) for index in region}
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = index in chosen


def _is_layer(module: Any) -> bool:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return isinstance(module, GradientCheckpointingLayer)


def load(model: Any) -> None:
    """Replace what is on the meta device by fake tensors: parameters in order, then buffers.

    Parameters that several modules share stay shared.
    """
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    made[id(parameter)] = _parameter(parameter)
                module._parameters[name] = made[id(parameter)]
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _empty(buffer)


def _parameter(old: Any) -> Any:
    return torch.nn.Parameter(_empty(old), requires_grad=old.requires_grad)


def _empty(old: Any) -> Any:
    return torch.empty_strided(old.shape, old.stride(), dtype=old.dtype)


def initialise(model: Any) -> None:
    """Random weights: as the model's own class draws them, and small ones for adapters."""
    with torch.no_grad(), quietly():
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.init_weights()
        for name, parameter in model.named_parameters():
            if ".lora_" in name or ".modules_to_save." in name:
                torch.nn.init.normal_(parameter, std=0.02)
