"""Published measurements as workloads: which rows the simulator covers, and what each of them says was run.

Every field of a workload comes from a fact its row declares, or from a habit of the named stack that is
spelled out here with its source. Nothing is fitted; a row that would
need a guess is left out, with the reason.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from memplan import profiles
from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import (
    Adapter,
    Attention,
    Batch,
    Checkpointing,
    Framework,
    Generate,
    Optimizer,
    Outputs,
    Precision,
    Quantization,
    Sequence,
    Task,
    Workload,
)
from memplan.families import architecture

Row = Mapping[str, Any]

SUITES = ("fitcheck", "vramcalc")
"""Plain loops on current releases: the rows that accuracy is judged by."""

OTHER_STACKS = ("fms",)
"""Fully declared runs on older releases than the simulator follows: shown, and judged apart."""

MODELS = {"mistral-7b": "mistralai/Mistral-7B-v0.1", "powerlm-3b": "ibm/PowerLM-3b"}
"""Short model names as hub ids (vocabulary and parameter count single out Mistral's v0.1)."""

GPUS = {"Tesla T4": "t4", "NVIDIA RTX A6000": "rtx-a6000", "A100-80GB": "a100-80gb"}

KERNELS = {
    "eager": Attention.EAGER,
    "flash_attention_2": Attention.FLASH_ATTENTION_2,
    'sdpa (T4: mem-efficient backend; source labels it "flash")': Attention.EFFICIENT,
    # Which of the two it was follows from the release (see Framework) and the GPU.
    "sdpa pinned to flash or memory-efficient kernels (math excluded)": Attention.SDPA,
}

QUANTIZATIONS = {
    "bnb nf4, blocksize 64, double_quant=False": False,
    "bnb nf4, double_quant=True": True,
}
"""Descriptions of NF4 weights, and whether their scales are quantized too."""

_OUTPUTS = {"fms": Outputs.DROPPED, "vramcalc": Outputs.UNTIL_STEP}
"""How long a suite's loop holds a model's outputs, if not for good.

The Hugging Face Trainer drops them with the local scope of ``compute_loss``; vramcalc's loop deletes them
between backward and the optimizer's step (``del out, loss`` in src/vramcalc/bench.py of 0.1.2).
"""

_STACKS = {"see refs/requirements_granite.txt": "torch 2.4.1, transformers 4.45.0"}
"""Releases that a row names by a file: scripts/benchmarks/refs/requirements_granite.txt of fms-acceleration."""

_TRL = ("fms",)
"""TRL's SFTTrainer casts embeddings and head of a prepared 4-bit model back to bf16
(``peft_module_casting_to_bf16``)."""

_PREFILL = ("vramcalc",)
"""Suites whose rows of inference are one pass over a prompt of declared length."""

_OWN_MODEL_CODE = ("litgpt", "torchtune")


def folder() -> Path:
    """Where measurements are: ``truth`` under ``MEMPLAN_SHARED``, else under ``../shared``."""
    beside = Path(__file__).resolve().parents[2] / "shared"
    return Path(os.environ.get("MEMPLAN_SHARED") or beside) / "truth"


def load(source: Path | None = None) -> list[Row]:
    """Every measured row of ``folder()`` or another.

    Raises:
        FileNotFoundError: the file is not there; the message says where it was looked for.
    """
    path = (source or folder()) / "measured.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: set MEMPLAN_SHARED to the folder that holds truth/")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def left_out(row: Row) -> str | None:
    """Why a row is not compared; None when it is."""
    return next(_obstacles(row), None)


def workload(row: Row) -> Workload:
    """What a covered row says was run."""
    common = Workload(
        model=shape(row),
        precision=Precision(params=_params(row), autocast=_autocast(row["compute_dtype"])),
        batch=Batch(micro=row["micro_batch"]),
        attention=KERNELS[row["attention"]],
        quantization=_quantization(row),
        framework=_framework(_STACKS.get(row["stack"], row["stack"])),
        outputs=_OUTPUTS.get(row["suite"], Outputs.KEPT),
    )
    return (_generating if row["task"] == "generate" else _training)(row, common)


def _generating(row: Row, common: Workload) -> Workload:
    """One forward pass over a whole prompt, with a cache."""
    generate = Generate(prompt=row["seq_len"], new_tokens=1, logits="all")
    return replace(common, task=Task.GENERATE, generate=generate, outputs=Outputs.KEPT)


def _training(row: Row, common: Workload) -> Workload:
    lora = row["lora"]
    return replace(
        common,
        batch=Batch(micro=row["micro_batch"], accumulation=row["grad_accum"]),
        sequence=Sequence(length=row["seq_len"]),
        optimizer=Optimizer(set_to_none="set_to_none=False" not in row["notes"]),
        adapter=_adapter(row, lora) if lora else None,
        checkpointing=Checkpointing(every=int(row["activation_checkpointing"].startswith("full"))),
    )


def gpu(row: Row) -> str:
    """memplan's name of the GPU of a covered row."""
    return next(gpu for name, gpu in GPUS.items() if row["gpu"].startswith(name))


def hub_id(row: Row) -> str:
    """The hub's name of a model."""
    return MODELS.get(str(row["model"]), str(row["model"]))


def shape(row: Row) -> Architecture:
    """The model of a covered row: from the config it declares, or from its profile."""
    declared = row.get("model_config") or {}
    if "model_type" in declared:
        return architecture(declared, lambda _: None)
    profile = _profile(row)
    assert profile is not None, row["model"]
    return architecture(profile.config, lambda _: None)


def _obstacles(row: Row) -> Iterator[str]:
    if row["scope"] == "op":
        if row["loss_impl"] == "liger":
            yield "a Triton kernel of Liger's, of an older release than the one simulated"
        return
    yield from _no_training_size(row)
    suite, loss = row["suite"], row["loss_impl"]
    if suite in _OWN_MODEL_CODE:
        yield f"{suite} has model code of its own, which is not simulated yet"
    if row["quantization"] != "none" and row["quantization"] not in QUANTIZATIONS:
        yield f"weights in {row['quantization']} are not simulated"
    if suite == "peft":
        yield "batches of varying length; reserved memory above a baseline is what was measured"
    if suite == "hf-docs":
        yield "only what NVML shows of the whole process was measured"
    if loss is not None and not loss.startswith("HF default"):
        yield "fused loss and norm kernels are not simulated yet"
    if "model_type" not in (row.get("model_config") or {}) and _profile(row) is None:
        yield f"the family of {row['model']} is not simulated yet"
    if suite not in SUITES + OTHER_STACKS or row["attention"] not in KERNELS:
        yield "the row does not say enough to be simulated without a guess"


def _profile(row: Row) -> profiles.ModelProfile | None:
    return profiles.model(hub_id(row))


def _no_training_size(row: Row) -> Iterator[str]:
    """Rows that are no single-GPU training run in plain precision with a size measured."""
    if row["kind"] == "fit_boundary":
        yield "an outcome (it ran, or ran out of memory) and not a size"
    if row["task"] in ("generate", "inference") and row["suite"] not in _PREFILL:
        yield "inference with other model code than transformers', or of unknown length"
    if row["scope"] != "end_to_end":
        yield "a part of a run: loading, one operator, a context, an adapter"
    if row["world_size"] != 1:
        yield "several GPUs are not simulated yet"
    if row["seq_len"] is None:
        yield "no sequence length is declared"


def _framework(stack: str) -> Framework:
    """The releases a row names, whose habits are simulated; memplan's own where it names none."""
    named = dict(re.findall(r"\b(torch|transformers) (\d+\.\d+)", stack))
    return replace(Framework(), **named)


def _params(row: Row) -> Dtype:
    """The dtype weights are loaded in: with 4-bit weights, the one these runs compute in."""
    declared = row["compute_dtype"] if row["quantization"] in QUANTIZATIONS else row["param_dtype"]
    return _dtype(declared)


def _quantization(row: Row) -> Quantization | None:
    double = QUANTIZATIONS.get(row["quantization"])
    return None if double is None else Quantization(kind="nf4", double=double, compute=_params(row))


def _adapter(row: Row, lora: Mapping[str, Any]) -> Adapter:
    prepared = "prepare_model_for_kbit_training" in row["param_dtype"]
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
    on = "torch.autocast on" in compute or compute.endswith(" autocast")
    return _dtype(compute) if on else None
