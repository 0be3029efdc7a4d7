"""Models as torchtune writes them (github.com/meta-pytorch/torchtune): ``TransformerDecoder``."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Task, Workload
from memplan.families.torchtune.model import TransformerDecoder
from memplan.simulator.tensor import Tape

__all__ = ["build", "covers", "left_out"]


COVERED = ("llama", "mistral")
"""The ``model_type`` values whose torchtune model is simulated."""


def covers(shape: Architecture, workload: Workload) -> bool:
    """Whether the run is simulated as torchtune does it: training, with weights in their own dtype."""
    plain = workload.task is Task.TRAIN and workload.quantization is None
    return plain and shape.model_type in COVERED and not shape.attention_bias and not shape.mlp_bias


def left_out(_: Architecture, workload: Workload) -> Iterator[tuple[str, int]]:
    """Losses that torchtune does not have."""
    if workload.loss.kind not in ("cross_entropy", "chunked"):
        yield f"torchtune has no loss {workload.loss.kind}: counted as cross-entropy", 0


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> TransformerDecoder:
    """Load the model (and its adapters) in the simulator."""
    return TransformerDecoder(tape, shape, workload, kind)
