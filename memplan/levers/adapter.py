"""Low-rank adapters instead of full training, over weights in 4 bits, and of lower rank: other experiments.

What an expert would do first comes first (``degree``): full training, LoRA, LoRA over 4-bit weights (QLoRA),
and only then a lower rank. QLoRA matches LoRA over 16-bit weights in its authors' comparisons (Dettmers et
al., arXiv:2305.14314, §4) and saves three quarters of the frozen weights; what a lower rank takes away is
what the run was meant to learn with, and it saves 16 bytes per weight of the adapters alone.

Options are not ordered by memory whatever the other levers do: adapters in fp32 keep copies of their inputs,
and with enough tokens at a time these outweigh the gradients and states that are saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

from memplan.domain.adapting import Adapting
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.harm import Harm
from memplan.domain.plan import Option
from memplan.domain.target import Target
from memplan.domain.workload import Adapter, Quantization, Task, Workload

NAME = "adapter"
SUMMARY = "train low-rank adapters, over frozen weights in 4 bits, or of a lower rank"
HARM = Harm.BEHAVIOUR

RANK = 16
"""The rank of the LoRA paper's larger runs and the usual choice in published recipes."""

SMALLEST = 8
"""PEFT's default. On every linear layer of Llama-3.1-8B these adapters have 0.26 % of its parameters."""

_LORA, _QLORA, _LOWER = 1, 1, 1
"""How far each step goes; steps add up."""

_SCALES = 4.127
"""Bits per weight of NF4 with quantized scales (arXiv:2305.14314, §3)."""

_ROUNDED = "in 4 bits, which are rounded and slower to read"
_MIXED = ("t5",)
"""Types that keep some layers in fp32 (``_keep_in_fp32_modules``), which is not simulated beside 4 bits."""

_WHOLE = ("none", "zero1", "zero2")
"""Shardings that leave parameters whole on each GPU: not every framework splits weights in 4 bits."""


def options(workload: Workload, target: Target | None, /) -> tuple[Option, ...]:
    """Adapters for a run that trains everything; 4-bit weights and lower ranks for one that has adapters.

    Nothing that the GPU lacks: a dtype that the run does not use yet is not brought in where it is missing.
    """
    shape = workload.model
    if not isinstance(shape, Architecture) or workload.task is not Task.TRAIN or not shape.linears:
        return ()
    if workload.adapter is not None and workload.adapter.kind != "lora":
        return ()
    habits = workload.adapting or _usual(workload)
    offered = _adapted if workload.adapter is None else _reduced
    return tuple(option for option in offered(workload, shape, habits) if _runs(workload, option, target))


def _adapted(workload: Workload, shape: Architecture, habits: Adapting) -> Iterator[Option]:
    """LoRA, QLoRA, and the leaner of them with a lower rank."""
    quantizes = _saves(workload, shape, habits)
    for rank in (RANK,) if quantizes else (RANK, SMALLEST):
        yield Option(
            changes=_changes(workload, habits, rank, shape.linears),
            harm=HARM,
            reason="gradients and optimizer state only for the adapters; the model learns less freely, "
            "and wants a higher learning rate",
            degree=_LORA + (_LOWER if rank < RANK else 0),
            requires=("peft",),
        )
    for rank in (RANK, SMALLEST) if quantizes else ():
        yield Option(
            changes=_changes(workload, habits, rank, shape.linears, quantized=True),
            harm=HARM,
            reason=f"adapters of rank {rank} over frozen weights {_ROUNDED}",
            degree=_LORA + _QLORA + (_LOWER if rank < RANK else 0),
            requires=("peft", "bitsandbytes"),
        )


def _reduced(workload: Workload, shape: Architecture, habits: Adapting) -> Iterator[Option]:
    """Lower ranks, 4-bit weights, and both."""
    now = workload.adapter
    assert now is not None
    for steps, rank in enumerate(ranks(now.rank), 1):
        yield Option(
            changes={"adapter": replace(now, rank=rank)},
            harm=HARM,
            reason=f"adapters of rank {rank} have fewer weights, gradients and states, and learn less; "
            "their scale is alpha / rank",
            degree=_QLORA + steps * _LOWER,
        )
    for steps, rank in enumerate((now.rank, *ranks(now.rank))) if _saves(workload, shape, habits) else ():
        lower = f"adapters of rank {rank} over " if steps else ""
        yield Option(
            changes=_changes(workload, habits, rank, now.targets, quantized=True),
            harm=HARM,
            reason=f"{lower}frozen weights {_ROUNDED}",
            degree=_QLORA + steps * _LOWER,
            requires=("bitsandbytes",) if workload.quantization is None else (),
        )


def ranks(rank: int) -> list[int]:
    """Halvings of a rank, down to 8."""
    found = []
    while (rank := rank // 2) >= SMALLEST:
        found.append(rank)
    return found


def _changes(
    workload: Workload, habits: Adapting, rank: int, targets: tuple[str, ...], *, quantized: bool = False
) -> dict[str, Any]:
    """What differs from the run as it is."""
    over = habits.quantized if quantized and habits.quantized else habits.plain
    params = (habits.quantized_params if quantized else None) or habits.params
    loading = habits.quantized_loading if quantized else None
    wanted = {
        "adapter": replace(over, rank=rank, targets=targets),
        "quantization": habits.quantization if quantized else workload.quantization,
        "precision.params": params,
        "host.loading": loading or workload.host.loading,
    }
    return {field: value for field, value in wanted.items() if workload.at(field) != value}


def _usual(workload: Workload) -> Adapting:
    """Adapters as PEFT's own guide makes them; those of litgpt and torchtune have the dtype of the weights.

    PEFT's ``prepare_model_for_kbit_training`` (src/peft/utils/other.py) makes fp32 what is not quantized.
    """
    precision, compute = workload.precision, workload.compute
    peft = workload.framework.code == "transformers"
    plain = workload.adapter or Adapter(dtype=Dtype.FP32 if peft else precision.params)
    return Adapting(
        plain=plain,
        params=precision.params,
        quantized=replace(plain, prepare_kbit=peft),
        quantization=Quantization(kind="nf4", double=True, compute=compute, readers=None if peft else 0),
        quantized_params=precision.params,
    )


def _saves(workload: Workload, shape: Architecture, habits: Adapting) -> bool:
    """Whether weights can be stored in 4 bits, and that saves more than it takes.

    It takes one matrix made whole again, and with ``prepare_kbit`` embeddings and head in fp32 and a copy of
    the head to compute with.
    """
    now, quantization, over = workload.quantization, habits.quantization, habits.quantized
    if quantization is None or over is None or (now is not None and now.kind != "int8"):
        return False
    if shape.config.get("quantization_config") or shape.model_type in _MIXED:
        return False
    matrices = [
        group
        for group in shape.groups
        if len(group.shape) == 2 and not set(group.name.split(".")).isdisjoint(shape.linears)
    ]
    stored = sum(group.parameters for group in matrices)
    saved = stored * ((habits.params.itemsize if now is None else 1) - _SCALES / 8)
    added = max((prod(group.shape) for group in matrices), default=0) * quantization.compute.itemsize
    if over.prepare_kbit and now is None:
        added += (shape.parameters - stored) * (Dtype.FP32.itemsize - habits.params.itemsize)
        added += shape.vocab_size * shape.hidden_size * quantization.compute.itemsize
    return workload.world.sharding in _WHOLE and saved > added


def _runs(workload: Workload, option: Option, target: Target | None) -> bool:
    """Whether the GPU has the dtypes that an option brings in."""
    after = workload
    for field, value in option.changes.items():
        after = after.changed(field, value)
    new = _dtypes(after) - _dtypes(workload)
    return target is None or all(target.supports(dtype) for dtype in new)


def _dtypes(workload: Workload) -> set[Dtype]:
    adapter, quantization = workload.adapter, workload.quantization
    used = (
        workload.precision.params,
        workload.precision.autocast,
        adapter.dtype if adapter else None,
        quantization.compute if quantization else None,
    )
    return {dtype for dtype in used if dtype is not None}
