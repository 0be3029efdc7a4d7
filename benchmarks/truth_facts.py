"""What is kept of a published row besides its config: what ran, on what, who measured it, and the figures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from benchmarks import truth_rows
from benchmarks.truth_operators import BACKWARD as BACKWARD_EXTRA
from benchmarks.truth_operators import BOTH as BOTH_EXTRA
from benchmarks.truth_operators import FORWARD as FORWARD_EXTRA
from benchmarks.truth_operators import TOTAL
from benchmarks.truth_rows import Row
from memplan.domain.workload import Task, Workload

ALLOCATED, RESERVED, PROCESS = "max_memory_allocated", "max_memory_reserved", "process"
AFTER_LOAD, RESIDENT, STATES = "after_load", "resident", "states"
FORWARD, BACKWARD, STEP = "forward_peak", "backward_peak", "optimizer_step_peak"

METRICS = {
    ("max_memory_allocated", None): ALLOCATED,
    ("max_memory_reserved", None): RESERVED,
    ("process (reserved + cuda_context)", None): PROCESS,
    ('NVML used (printed "MB" = //1024**2)', None): PROCESS,
    ("nvidia-smi peak", None): PROCESS,
    ("peak memory (fwd+bwd, total incl. inputs)", None): TOTAL,
    ("peak extra memory", "forward"): FORWARD_EXTRA,
    ("peak extra memory", "backward"): BACKWARD_EXTRA,
    ("peak extra memory", "forward+backward"): BOTH_EXTRA,
    ("allocated", "after_load"): AFTER_LOAD,
    ("allocated", "weights loaded"): AFTER_LOAD,
    ("allocated", "forward_peak"): FORWARD,
    ("allocated", "backward_peak"): BACKWARD,
    ("allocated", "optimizer_step_peak"): STEP,
    ("allocated", "optimizer states + zeroed gradients"): STATES,
    ("allocated", "after_training (weights+states)"): RESIDENT,
}
"""Published metrics and phases as they are called here; others are not compared.

``resident`` is what stays between two optimizer steps; ``states`` is how much that exceeds what loading left.
"""


def facts(row: Row) -> dict[str, Any]:
    """The entry of a row in ``measured.yaml``; sizes are in bytes."""
    single = row["scope"] == "op"
    found: dict[str, Any] = {
        "id": row["id"],
        "run": row["model"] if single else label(row, truth_rows.workload(row)),
        **({"operator": operator(row)} if single else {"model": truth_rows.hub_id(row)}),
        "gpu": row["gpu"],
        "confidence": row["confidence"],
        "source": dict(row["source"]),
    }
    if not single and (reason := truth_rows.contradicts(row)) is not None:
        found["contradicts"] = reason
    if row.get("stack"):
        found["stack"] = row["stack"]
    context = re.search(r"subtract ~(\d+) MiB CUDA context", row["notes"])
    if context is not None:
        found["context"] = int(context[1]) * 2**20
    if "outcome" in row:
        found["outcome"] = row["outcome"]["result"]
    found["measured"] = dict(figures(row))
    return found


def figures(row: Row) -> Iterator[tuple[str, int]]:
    """The metrics of a row that can be compared."""
    for entry in row["measured"]:
        name = METRICS.get((entry["metric"], entry.get("phase")))
        if name is not None and entry["bytes"]:
            yield name, entry["bytes"]


def operator(row: Row) -> dict[str, Any]:
    """A single operator and its sizes, out of the row's description of it."""
    return _sized(row) | ({"kernels": "liger"} if row["loss_impl"] == "liger" else {})


def _sized(row: Row) -> dict[str, Any]:
    text = str(row["model"])
    numbers = {name: int(value) for name, value in re.findall(r"\b([A-Z]+)=(\d+)", text)}
    extra = json.loads(text[text.index("{") :]) if "{" in text else {}
    if text.startswith("cross_entropy"):
        tokens = extra["B"] * extra["T"]
        return {"kind": "cross_entropy", "tokens": tokens, "vocabulary": numbers["V"]}
    if text.startswith("fused_linear_cross_entropy"):
        sides = {"tokens": numbers["BT"], "width": extra["H"], "vocabulary": extra["V"], "dtype": "bf16"}
        return {"kind": "fused_linear", **sides, "liger": row["source"]["liger_version"]}
    if text.startswith("rms_norm"):
        return {"kind": "rms_norm", "tokens": extra["M"], "width": numbers["H"], "dtype": "bf16"}
    if text.startswith("swiglu"):
        sides = {"width": extra["hidden_size"], "inner": extra["intermediate_size"]}
        return {"kind": "gated_mlp", "batch": extra["B"], "length": numbers["T"], **sides, "dtype": "bf16"}
    sizes = {"tokens": numbers["N"], "width": numbers["D"], "vocabulary": numbers["V"]}
    return {"kind": "softcapped_loss", **sizes, "dtype": row["compute_dtype"]}


def label(row: Row, workload: Workload) -> str:
    """What ran, for people: model, task, dtype, batch × sequence, attention, checkpointing."""
    generate = workload.generate
    length = f"{workload.batch.micro}×{workload.sequence.length}"
    if workload.task is Task.GENERATE:
        length = (
            f"1×{generate.prompt}" if generate.new_tokens == 1 else f"{generate.prompt}+{generate.new_tokens}"
        )
    words = [
        str(row["model"]).rsplit("/", 1)[-1],
        row["task"],
        _precision(workload),
        length,
        workload.framework.code if row["suite"] == "litgpt" else str(workload.attention),
    ]
    count = workload.world.data_parallel
    words += ["checkpointing"] * bool(workload.checkpointing.every) + [f"{count} GPUs"] * (count > 1)
    return ", ".join(words)


def _precision(workload: Workload) -> str:
    if workload.quantization is not None:
        return f"{workload.quantization.kind} + {workload.quantization.compute}"
    return str(workload.precision.params) + (" + autocast" if workload.precision.autocast else "")
