"""Linear layers of bitsandbytes in a real model, put there and filled as transformers does.

Its weights come from a checkpoint, sorted by name, and each is quantized as it is read (``Bnb4bitQuantize``
and ``Bnb8bitQuantize`` in src/transformers/integrations/bitsandbytes.py, 5.23). Here random numbers take the
checkpoint's place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from memplan.domain.workload import Quantization, Workload
from memplan.smoke.bitsandbytes import load_bitsandbytes
from memplan.smoke.cuda import TORCH
from memplan.smoke.meter import Named

SPREAD = 0.02
"""Standard deviation of random weights."""


def replaced(model: Any, quantization: Quantization) -> Any:
    """A model on the meta device with bitsandbytes' layers in place of linear ones."""
    load_bitsandbytes()
    quantizer = _quantizer(quantization)
    quantizer.preprocess_model(model=model, device_map={"": "cpu"})
    model.hf_quantizer = quantizer
    quantizer.postprocess_model(model)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # Some CPUs would get weights packed for a kernel of their own.
            module.support_avx512bf16_for_cpu = False
    return model


def _quantizer(quantization: Quantization) -> Any:
    from transformers import BitsAndBytesConfig
    from transformers.quantizers.auto import AutoHfQuantizer

    if quantization.kind == "int8":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization.kind,
            bnb_4bit_use_double_quant=quantization.double,
            bnb_4bit_compute_dtype=TORCH[quantization.compute],
        )
    return AutoHfQuantizer.from_config(settings, pre_quantized=False)


def sample(quantization: Quantization, side: int) -> Any:
    """One layer of bitsandbytes by itself, ``side`` by ``side``."""
    layers = load_bitsandbytes().nn
    if quantization.kind == "int8":
        made = layers.Linear8bitLt(side, side, has_fp16_weights=False)
    else:
        made = layers.Linear4bit(
            side,
            side,
            compute_dtype=TORCH[quantization.compute],
            compress_statistics=quantization.double,
            quant_type=quantization.kind,
        )
    return made.to("cpu")


def load(model: Any, workload: Workload) -> None:
    """Give every parameter memory, in a checkpoint's order, then every buffer."""
    quantizer = model.hf_quantizer
    operation = quantizer.get_quantize_ops()
    places = _places(model)
    for name, old in sorted(model.named_parameters(), key=lambda item: _order(item[0])):
        if quantizer.param_needs_quantization(model, name):
            value = _drawn(_stored(model, name, old), TORCH[workload.precision.params])
            new = operation.convert({name: [value]}, model=model, full_layer_name=name)[name]
            del value
        else:
            new = torch.nn.Parameter(_plain(name, old), requires_grad=False)
        new._is_hf_initialized = True
        for module, key in places[id(old)]:
            module._parameters[key] = new
    for module in model.modules():
        for key, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[key] = torch.empty_like(buffer, device="cpu")


def _order(name: str) -> list[tuple[bool, int, str]]:
    """Names sort by their parts, numbers by value."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def _places(model: Any) -> dict[int, list[tuple[Any, str]]]:
    """Where each parameter stands: several modules may share one."""
    found: dict[int, list[tuple[Any, str]]] = {}
    for module in model.modules():
        for key, parameter in module._parameters.items():
            if parameter is not None:
                found.setdefault(id(parameter), []).append((module, key))
    return found


def _stored(model: Any, name: str, old: Any) -> tuple[int, ...]:
    """The shape of a weight in the checkpoint: that of a ``Conv1D`` lies the other way."""
    from transformers.pytorch_utils import Conv1D

    owner = model.get_submodule(name.rpartition(".")[0])
    shape = tuple(old.shape)
    return shape[::-1] if issubclass(owner.source_cls, Conv1D) else shape


def _drawn(shape: tuple[int, ...], dtype: Any) -> Any:
    return torch.empty(shape, dtype=dtype).normal_(std=SPREAD)


def _plain(name: str, old: Any) -> Any:
    """A table at random; a bias of zeros; the weights of a norm, which are ones."""
    if old.dim() > 1:
        return _drawn(tuple(old.shape), old.dtype)
    return torch.empty(old.shape, dtype=old.dtype).fill_(0 if name.endswith("bias") else 1)


def scales(model: Any, names: dict[int, str]) -> Iterator[Named]:
    """What lies beside quantized weights: scales and tables; ``names`` are those of modules."""
    for module in model.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        name = f"{names.get(id(module), '')}.weight"
        for use, tensor in _of_four_bits(state) if state is not None else _of_eight_bits(module):
            if isinstance(tensor, torch.Tensor):
                yield tensor, "blocks", name, use


def _of_four_bits(state: Any) -> Iterator[tuple[str, Any]]:
    yield "absmax", state.absmax
    yield "code", state.code
    if state.nested:
        yield "offset", state.offset
        yield "absmax_scales", state.state2.absmax
        yield "absmax_code", state.state2.code


def _of_eight_bits(module: Any) -> Iterator[tuple[str, Any]]:
    """They move from the weight to the layer's state in the first forward pass."""
    for holder in (getattr(module, "weight", None), getattr(module, "state", None)):
        yield "row_scales", getattr(holder, "SCB", None)
