"""Real training steps of models that are no decoders: their classes, and batches of their kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from memplan.domain.workload import Workload
from tests.oracle.cpu_step import DTYPES, Batches, prepared, second_step_of, words
from tests.oracle.libraries import library

torch = library("torch")
transformers = library("transformers")


def built(config: Mapping[str, Any], dtype: Any = torch.float32) -> Any:
    """The class that ``architectures`` names, for a ``config.json``."""
    settings = {key: value for key, value in config.items() if key != "model_type"}
    shape = transformers.AutoConfig.for_model(config["model_type"], **settings)
    kind = getattr(transformers, config["architectures"][0])
    return kind._from_config(shape, dtype=dtype, attn_implementation="eager")


def _sequences(workload: Workload) -> dict[str, Any]:
    """Token ids, and one label for each sequence."""
    size = (workload.batch.micro, workload.sequence.length)
    ids = torch.zeros(size, dtype=torch.int64)
    return {"input_ids": ids, "labels": torch.zeros(size[:1], dtype=torch.int64)}


def _images(config: Mapping[str, Any]) -> Batches:
    """Pixels, and one label for each image."""

    def batch(workload: Workload) -> dict[str, Any]:
        count, side = workload.batch.micro, config["image_size"]
        pixels = torch.zeros((count, 3, side, side))
        return {"pixel_values": pixels, "labels": torch.zeros((count,), dtype=torch.int64)}

    return batch


class Patched(torch.autograd.Function):  # type: ignore[misc, name-defined]
    """What a convolution without overlaps allocates with cuDNN; a CPU unfolds the image first."""

    @staticmethod
    def forward(ctx: Any, image: Any, weight: Any, bias: Any) -> Any:
        ctx.save_for_backward(image, weight)
        ctx.bias = bias.requires_grad
        rows, columns = (image.shape[axis] // weight.shape[axis] for axis in (2, 3))
        return image.new_empty((image.shape[0], weight.shape[0], rows, columns))

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        _image, weight = ctx.saved_tensors
        row_major = gradient.contiguous()
        of_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        del row_major
        return None, of_weight, gradient.new_empty(gradient.shape[1:2]) if ctx.bias else None


def conv2d_like_cuda(image: Any, weight: Any, bias: Any, *_: Any) -> Any:
    """``F.conv2d`` of patches."""
    return Patched.apply(image, weight, bias)


def _batches(config: Mapping[str, Any]) -> Batches:
    kinds = {"BertForSequenceClassification": _sequences, "ViTForImageClassification": _images(config)}
    return kinds.get(config["architectures"][0], words)


def second_step(config: Mapping[str, Any], workload: Workload) -> list[int]:
    """Allocations (positive) and frees (negative) of the second optimizer step, in bytes, in order."""
    torch.manual_seed(0)
    trained = prepared(built(config, DTYPES[workload.precision.params]), workload, task=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", conv2d_like_cuda)
        return second_step_of(trained, workload, _batches(config))
