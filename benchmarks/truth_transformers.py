"""Runs of transformers' own classes: what a published row says was run.

Every field comes from a fact the row declares, or from a habit of the named stack that is spelled out here
with its source. Nothing is fitted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Generate,
    Optimizer,
    Outputs,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
    World,
)

Row = Mapping[str, Any]

KERNELS = {
    "eager": Attention.EAGER,
    "flash_attention_2": Attention.FLASH_ATTENTION_2,
    'sdpa (T4: mem-efficient backend; source labels it "flash")': Attention.EFFICIENT,
    # Which of the two it was follows from the release (see Framework) and the GPU.
    "sdpa pinned to flash or memory-efficient kernels (math excluded)": Attention.SDPA,
}

INT8 = "bnb LLM.int8"
QUANTIZATIONS = {
    "bnb nf4, blocksize 64, double_quant=False": False,
    "bnb nf4, double_quant=True": True,
}
"""Descriptions of NF4 weights, and whether their scales are quantized too."""

_CONTRADICTING = ("t4-qlora-2026-09-01", "t4-sweep-2026-09-15")
"""Sessions whose 4-bit runs behave as if each had the other's release of transformers.

The first names 5.0, which reads weights ahead with four threads; the second 5.17, which reads one by one,
and yet the same model took another amount of memory after each of six loads.
"""

_OUTPUTS = {"fms": Outputs.DROPPED, "hf-docs": Outputs.DROPPED, "vramcalc": Outputs.UNTIL_STEP}
"""How long a suite's loop holds a model's outputs, if not for good.

The Hugging Face Trainer drops them with the local scope of ``compute_loss``; vramcalc's loop deletes them
between backward and the optimizer's step (``del out, loss`` in src/vramcalc/bench.py of 0.1.2).
"""

_STACKS = {"see refs/requirements_granite.txt": "torch 2.4.1, transformers 4.45.0"}
"""Releases that a row names by a file of fms-acceleration (in scripts/benchmarks)."""

_UNNAMED = {("hf-docs", "full"): "torch 1.10"}
"""BERT on a V100 with CUDA 11.2, in a page of 2022 that names no release.

What the older releases do differently, softmax that saves its input and gradients that stay, is what its run
without checkpointing shows (19 % low without either, 0.04 % high with both).
"""

_GRADIENTS_STAY = ("hf-docs",)
"""Suites older than PyTorch 2.0, whose ``zero_grad`` zeroes."""

_TRL = ("fms",)
"""TRL's SFTTrainer casts embeddings and head of a prepared 4-bit model back to bf16
(``peft_module_casting_to_bf16``)."""

_TRAINERS = ("fms", "hf-docs")
"""Suites trained by the Trainer, which clips gradients (``max_grad_norm`` of TrainingArguments is 1)."""

_OPTIMIZERS = {"Adafactor": "adafactor", "bnb Adam8bit": "adamw_8bit"}
"""Optimizers other than AdamW."""


def workload(row: Row, shape: Architecture) -> Workload:
    """What a covered row says was run."""
    common = Workload(
        model=shape,
        precision=Precision(params=_params(row), autocast=_autocast(row["compute_dtype"])),
        batch=Batch(micro=row["micro_batch"]),
        attention=KERNELS[row["attention"]],
        quantization=_quantization(row),
        framework=_framework(_stack(row)),
        world=_world(row),
        outputs=_OUTPUTS.get(row["suite"], Outputs.KEPT),
    )
    return (_generating if row["task"] == "generate" else _training)(row, common)


def _generating(row: Row, common: Workload) -> Workload:
    """Tokens after a prompt, or no more than one forward pass over it, with a cache."""
    generate = Generate(prompt=row.get("seq_len") or 1, new_tokens=1, logits="all")
    if "prompt" in (row.get("inference") or {}):
        prompt = re.search(r"~(\d+)-token", row["inference"]["prompt"])
        assert prompt is not None, row["model"]
        new = row["inference"]["max_new_tokens"]
        generate = Generate(prompt=int(prompt[1]), new_tokens=new, logits="last")
    return replace(common, task=Task.GENERATE, generate=generate, outputs=Outputs.KEPT)


def _training(row: Row, common: Workload) -> Workload:
    lora = row["lora"]
    return replace(
        common,
        batch=Batch(micro=row["micro_batch"], accumulation=row["grad_accum"]),
        sequence=Sequence(length=row["seq_len"]),
        optimizer=Optimizer(
            name=_OPTIMIZERS.get(row["optimizer"], "adamw"),
            set_to_none="set_to_none=False" not in row["notes"] and row["suite"] not in _GRADIENTS_STAY,
            clipping=row["suite"] in _TRAINERS,
        ),
        adapter=_adapter(row, lora) if lora else None,
        checkpointing=_checkpointing(row),
    )


def _checkpointing(row: Row) -> Checkpointing:
    """Reentrant under the Trainer, whose ``gradient_checkpointing`` says nothing else unless told to."""
    every = int(row["activation_checkpointing"].startswith("full"))
    return Checkpointing(every=every, reentrant=bool(every) and row["suite"] in _TRAINERS)


def _world(row: Row) -> World:
    """Several GPUs are sharded by the first FSDP as accelerate's launcher sets it up.

    Its ``fsdp_use_orig_params`` is true unless told otherwise, and with mixed precision its policy has that
    dtype (``set_mixed_precision`` in accelerate src/accelerate/utils/dataclasses.py). fms asks for
    ``BACKWARD_PRE`` (scripts/benchmarks/accelerate.yaml of fms-acceleration).
    """
    if row["world_size"] == 1:
        return World()
    dtype = _autocast(row["compute_dtype"])
    return World(data_parallel=row["world_size"], sharding="fsdp1", param_dtype=dtype, reduce_dtype=dtype)


def _stack(row: Row) -> str:
    stack = row.get("stack") or _UNNAMED.get((row["suite"], row["task"]), "")
    return _STACKS.get(stack, stack)


def _framework(stack: str) -> Framework:
    """The releases a row names, whose habits are simulated; memplan's own where it names none."""
    named = dict(re.findall(r"\b(torch|transformers) (\d+\.\d+)", stack))
    return replace(Framework(), **named)


def _params(row: Row) -> Dtype:
    """The dtype weights are loaded in: with 4-bit weights, the one these runs compute in."""
    declared = row["compute_dtype"] if row["quantization"] in (*QUANTIZATIONS, INT8) else row["param_dtype"]
    return _dtype(declared)


def _quantization(row: Row) -> Quantization | None:
    if row["quantization"] == INT8:
        return Quantization(kind="int8", compute=_params(row))
    double = QUANTIZATIONS.get(row["quantization"])
    if double is None:
        return None
    return Quantization(kind="nf4", double=double, compute=_params(row))


def contradicts(row: Row) -> str | None:
    """What a row's memory shows that is not what it declares."""
    session = str(row["source"].get("path")).rpartition("/")[2].partition(".")[0]
    if session in _CONTRADICTING and row["quantization"] in QUANTIZATIONS:
        return "the memory after loading is that of another release than the session names"
    if not row.get("stack") and (row["suite"], row["task"]) in _UNNAMED:
        return "no release of PyTorch is named: the one that is run is read off the memory"
    return None


def _adapter(row: Row, lora: Mapping[str, Any]) -> Adapter:
    # TRL leaves 4-bit weights as they are if FSDP shards them (``is_sharded_qlora`` in its sft_trainer.py).
    prepared = "prepare_model_for_kbit_training" in row["param_dtype"] and row["world_size"] == 1
    in_bf16 = row["compute_dtype"].startswith("bf16")
    return Adapter(
        rank=lora["rank"],
        targets=tuple(lora["targets"]),
        dtype=_dtype(lora["dtype"]),
        dropout=float(lora["dropout"]),
        prepare_kbit=prepared,
        half_embeddings=prepared and in_bf16 and row["suite"] in _TRL,
    )


def _dtype(text: str) -> Dtype:
    """The element type a description starts with: ``fp32 (peft autocast_adapter_dtype)``."""
    return Dtype.parse(text.split()[0])


def _autocast(compute: str) -> Dtype | None:
    on = "torch.autocast on" in compute or compute.endswith((" autocast", " AMP"))
    return _dtype(compute) if on else None
