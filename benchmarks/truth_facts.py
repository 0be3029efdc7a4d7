"""What is kept of a published row besides its config: what ran, on what, who measured it, and the figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import truth_rows
from benchmarks.truth_rows import Row

ALLOCATED, RESERVED, PROCESS = "max_memory_allocated", "max_memory_reserved", "process"
AFTER_LOAD, RESIDENT, STATES = "after_load", "resident", "states"
FORWARD, BACKWARD, STEP = "forward_peak", "backward_peak", "optimizer_step_peak"

METRICS = {
    ("max_memory_allocated", None): ALLOCATED,
    ("max_memory_reserved", None): RESERVED,
    ("process (reserved + cuda_context)", None): PROCESS,
    ('NVML used (printed "MB" = //1024**2)', None): PROCESS,
    ("nvidia-smi peak", None): PROCESS,
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
    found: dict[str, Any] = {
        "id": row["id"],
        "run": label(row),
        "model": truth_rows.hub_id(row),
        "gpu": row["gpu"],
        "confidence": row["confidence"],
        "source": dict(row["source"]),
    }
    if row["stack"]:
        found["stack"] = row["stack"]
    found["measured"] = dict(figures(row))
    return found


def figures(row: Row) -> Iterator[tuple[str, int]]:
    """The metrics of a row that can be compared."""
    for entry in row["measured"]:
        name = METRICS.get((entry["metric"], entry.get("phase")))
        if name is not None and entry["bytes"]:
            yield name, entry["bytes"]


def label(row: Row) -> str:
    """What ran, for people: model, task, dtype, batch × sequence, attention, checkpointing."""
    words = (
        str(row["model"]).rsplit("/", 1)[-1],
        row["task"],
        _precision(row),
        f"{row['micro_batch']}×{row['seq_len']}",
        str(truth_rows.KERNELS[row["attention"]]),
    )
    checkpointed = row["activation_checkpointing"].startswith("full")
    return ", ".join(words) + (", checkpointing" if checkpointed else "")


def _precision(row: Row) -> str:
    if row["quantization"] != "none":
        return f"nf4 + {row['compute_dtype'].split()[0]}"
    return str(row["param_dtype"]) + (" + autocast" if "torch.autocast" in row["compute_dtype"] else "")
