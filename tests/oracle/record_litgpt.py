"""Record what training steps of litgpt allocate on the CPU: ``python -m tests.oracle.record_litgpt RELEASE``.

Needs litgpt of that release and lightning, which the tests do not: they read ``litgpt_events.json``, to which
this adds every case of the release. Attention, convolution and dropout are replaced by stand-ins that
allocate what CUDA's kernels do (FlashAttention-2, cuDNN with channels last, a mask of bytes).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import types
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tests.oracle.litgpt_cases import CASES, EVENTS, LENGTH, MICRO, RANK, Case

SMALLEST = 1024
ADAPTED = ("query", "key", "value", "projection", "mlp", "head")


def packed(shape: tuple[int, int, int], dtype: torch.dtype) -> torch.Tensor:
    """(B, C, T) with channels last."""
    batch, channels, length = shape
    return torch.empty(batch, length, channels, dtype=dtype).transpose(1, 2)


def readable(x: torch.Tensor) -> torch.Tensor:
    """What cuDNN reads: a copy unless channels are last."""
    return x if x.transpose(1, 2).is_contiguous() else packed(x.shape, x.dtype)


class Convolution(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        _read = readable(x)
        ctx.save_for_backward(x, weight)
        return packed((x.shape[0], weight.shape[0], x.shape[2]), x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, weight = ctx.saved_tensors
        _gradient, _read = readable(gradient), readable(x)
        return packed(x.shape, x.dtype), torch.zeros(weight.shape, dtype=weight.dtype)


class Attention(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        output, sums = torch.zeros_like(query), torch.zeros(query.shape[:3], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, sums)
        return output

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value, _output, _sums = ctx.saved_tensors
        results = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
        batch, heads, length, width = query.shape
        padded = (batch, heads, -(-length // 128) * 128, -(-width // 32) * 32)
        _rows = torch.empty(padded[:3], dtype=torch.float32)
        _accumulated = torch.empty(padded, dtype=torch.float32)
        return results


class MaskedAttention(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        batch, heads, length, _ = query.shape
        output = by_rows(query)
        sums = torch.zeros((batch, heads, -(-length // 32) * 32), dtype=torch.float32)
        ctx.save_for_backward(query, key, value, output, sums, mask)
        return output

    @staticmethod
    def backward(ctx: Any, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *_saved = ctx.saved_tensors
        results = by_rows(query), by_rows(key), by_rows(value)
        _delta = torch.empty(query.shape[:3], dtype=torch.float32)
        return *results, None


def by_rows(x: torch.Tensor) -> torch.Tensor:
    """(B, H, S, D) in the memory of (B, S, H, D), as the memory-efficient kernel leaves fp32 results."""
    batch, heads, length, width = x.shape
    return torch.zeros(batch, length, heads, width, dtype=x.dtype).transpose(1, 2)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    **_: Any,
) -> torch.Tensor:
    """FlashAttention-2, or the memory-efficient kernel where there is a mask."""
    if attn_mask is None:
        return Attention.apply(query, key, value)
    return MaskedAttention.apply(query, key, value, attn_mask)


class Dropout(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(torch.empty_like(x, dtype=torch.bool))
        return torch.empty_like(x)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(gradient)


@cache
def library() -> tuple[Any, Any, Any]:
    """litgpt's modules for models, adapters and losses, without what its package imports besides."""
    found = importlib.util.find_spec("litgpt")
    assert found is not None
    package = types.ModuleType("litgpt")
    package.__path__ = list(found.submodule_search_locations or [])
    sys.modules["litgpt"] = package
    names = ("model", "lora", "utils")
    model, lora, utils = (importlib.import_module(f"litgpt.{name}") for name in names)
    functional = torch.nn.functional
    functional.conv1d = lambda x, weight, groups=1: Convolution.apply(x, weight)
    functional.scaled_dot_product_attention = attention
    functional.dropout = lambda x, *_: Dropout.apply(x)
    return model, lora, utils


def events(case: Case) -> list[int]:
    """Allocations (positive) and frees (negative) of the second step, in bytes, in order."""
    model, lora, utils = library()
    fabric = importlib.import_module("lightning").Fabric(
        accelerator="cpu", devices=1, precision=case.precision
    )
    module = lora if case.adapted else model
    switches = {f"lora_{part}": part in case.adapted for part in ADAPTED}
    extra = {"lora_r": RANK, "lora_alpha": 16, "lora_dropout": case.dropout} if case.adapted else {}
    config = module.Config(**case.settings, **(extra | switches if case.adapted else {}))
    with fabric.init_module():
        trained = module.GPT(config)
    if case.adapted:
        lora.mark_only_lora_as_trainable(trained)
    trained = fabric.setup_module(trained)
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(parameters, foreach=True))
    trained.max_seq_length = LENGTH
    steps = recipe(fabric, trained, optimizer, utils.chunked_cross_entropy, adapted=bool(case.adapted))
    next(steps)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        next(steps, None)
    found = profile.profiler.kineto_results.events()
    return [event.nbytes() for event in found if event.name() == "[memory]"]


def recipe(fabric: Any, trained: Any, optimizer: Any, cross_entropy: Any, *, adapted: bool) -> Any:
    """Two optimizer steps of the finetuning recipes; pauses between them."""
    for step in range(2):
        tokens, targets = (torch.zeros((MICRO, LENGTH), dtype=torch.int64) for _ in range(2))
        if adapted:
            logits = trained(tokens, lm_head_chunk_size=128)
            logits[-1] = logits[-1][..., :-1, :]
            loss = cross_entropy(logits, targets[..., 1:])
        else:
            logits = trained(tokens)
            loss = cross_entropy(logits[..., :-1, :], targets[..., 1:])
        fabric.backward(loss / 1)
        optimizer.step()
        optimizer.zero_grad()
        if not step:
            yield


def main(release: str) -> None:
    """Add the cases of a release to the file."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.set_flags(_enabled=False)
    path = Path(EVENTS)
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    for name, case in CASES.items():
        if case.release == release:
            recorded[name] = [size for size in events(case) if abs(size) >= SMALLEST]
    lines = [f"{json.dumps(name)}: {json.dumps(recorded[name])}" for name in CASES if name in recorded]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
