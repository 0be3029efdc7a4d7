"""Published measurements: which rows can be compared, and where what each of them ran is spelled out.

A row that would need a guess is left out, with the reason.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks import truth_litgpt, truth_transformers
from memplan import profiles
from memplan.domain.architecture import Architecture
from memplan.domain.workload import Workload
from memplan.families import architecture

Row = Mapping[str, Any]

_OLDER_CODE = ("mixtral-8x7b", "santacoder-1.1b")
"""Models whose code was another when they were measured: experts as a list of modules, a loss inline."""

NOT_COMPARED = {
    "torchtune": "torchtune: compiled, packed, of no declared length, or with an optimizer within backward",
    "torchtitan": "torchtitan has model code of its own, which is not simulated",
    "torchao-infer": "gpt-fast has model code of its own, which is not simulated",
    "vllm": "an inference engine of its own",
    "llamacpp": "an inference engine of its own",
    "peft": "batches of varying length; reserved memory above a baseline is what was measured",
    "torchao-optim": "no sequence length is declared",
    "context": "the context in the profile of that GPU was taken from it",
}
"""Suites none of whose rows are compared, and why."""

MODELS = {
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "llama-2-70b": "meta-llama/Llama-2-70b-hf",
    "powerlm-3b": "ibm/PowerLM-3b",
    "santacoder-1.1b": "bigcode/gpt_bigcode-santacoder",
    "octocoder-15.5b": "bigcode/octocoder",
    "bert-large-uncased": "google-bert/bert-large-uncased",
}
"""Short model names as hub ids (vocabulary and parameter count single out Mistral's v0.1)."""

GPUS = {
    "Tesla T4": "t4",
    "NVIDIA RTX A6000": "rtx-a6000",
    "A100-80GB": "a100-80gb",
    "A100-SXM4-40GB": "a100-40gb",
    "A100-40GB": "a100-40gb",
    "A10G 24GB": "a10g",
    "V100-16GB": "v100-16g",
}


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
    spelled = truth_litgpt.workload if row["suite"] == "litgpt" else truth_transformers.workload
    return spelled(row, shape(row))


def contradicts(row: Row) -> str | None:
    """Why a row that is compared is held to no limit: which releases it ran is in doubt."""
    if row["suite"] == "litgpt":
        return truth_litgpt.contradicts(row)
    return truth_transformers.contradicts(row)


def gpu(row: Row) -> str:
    """memplan's name of the GPU of a covered row."""
    return next(gpu for name, gpu in GPUS.items() if row["gpu"].startswith(name))


def hub_id(row: Row) -> str:
    """The hub's name of a model, if it has one here."""
    name = str(row["model"])
    return (truth_litgpt.PROFILES if row["suite"] == "litgpt" else MODELS).get(name, name)


def named(row: Row) -> dict[str, Any]:
    """The model of a covered row as a config of ours names it."""
    if row["suite"] == "litgpt":
        return truth_litgpt.named(row)
    declared = dict(row.get("model_config") or {})
    if "model_type" in declared:
        return {"config": declared}
    if row["model"] == "bert-large-uncased":
        profile = _profile(row)
        assert profile is not None
        return {"config": dict(profile.config) | {"architectures": ["BertForSequenceClassification"]}}
    return {"ref": hub_id(row)}


def shape(row: Row) -> Architecture:
    """The model of a covered row."""
    model = named(row)
    config = model.get("config")
    if config is None:
        profile = profiles.model(model["ref"])
        assert profile is not None, row["model"]
        config = profile.config
    return _architecture(json.dumps(dict(config)))


@cache
def _architecture(config: str) -> Architecture:
    return architecture(json.loads(config), lambda _: None)


def _obstacles(row: Row) -> Iterator[str]:
    suite = row["suite"]
    if suite in NOT_COMPARED:
        yield NOT_COMPARED[suite]
    elif row["scope"] == "op":
        return
    elif row["scope"] != "end_to_end":
        yield "a part of a run"
    elif suite == "litgpt":
        if (reason := truth_litgpt.not_compared(row)) is not None:
            yield reason
    else:
        yield from _not_simulated(row)


def _not_simulated(row: Row) -> Iterator[str]:
    """Runs of transformers that no workload stands for."""
    loss = row.get("loss_impl")
    if row["quantization"] not in ("none", truth_transformers.INT8, *truth_transformers.QUANTIZATIONS):
        yield f"weights in {row['quantization']} are not simulated"
    if loss is not None and not loss.startswith(("HF default", "seq-cls")):
        yield "fused kernels of norms, positions and losses that are not simulated"
    if row["model"] in _OLDER_CODE:
        yield f"{row['model']} is not simulated as transformers 4.48 runs it"
    if row["attention"] not in truth_transformers.KERNELS:
        yield "the row does not say enough to be simulated without a guess"


def _profile(row: Row) -> profiles.ModelProfile | None:
    return profiles.model(hub_id(row))
