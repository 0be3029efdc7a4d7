"""Models as litgpt writes them (github.com/Lightning-AI/litgpt): one ``GPT`` class with switches."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Task, Workload
from memplan.families.litgpt.design import COVERED, windowed
from memplan.families.litgpt.model import Gpt
from memplan.simulator.tensor import Tape

__all__ = ["build", "covers", "left_out"]


def covers(shape: Architecture, workload: Workload) -> bool:
    """Whether the model is simulated as this release of litgpt runs it."""
    windows = workload.task is not Task.TRAIN and windowed(shape, workload.framework)
    return shape.model_type in COVERED and not windows


def left_out(shape: Architecture, workload: Workload) -> Iterator[tuple[str, int]]:
    """Losses that litgpt does not have, and ``StableEmbedding`` (from 0.5.0).

    These are a quantized model's embeddings anew, trained and never stepped. The old ones stay in the
    recipe's frame, the gradient in the new ones (litgpt/finetune/lora.py).
    """
    if workload.loss.kind != "cross_entropy":
        yield f"litgpt has a loss of its own: {workload.loss.kind} is ignored", 0
    if workload.quantization is None or workload.task is not Task.TRAIN:
        return
    if not workload.framework.litgpt_before(0, 5, 0):
        width = workload.precision.params.itemsize
        table = shape.vocab_size * shape.hidden_size * width
        states = workload.batch.micro * workload.sequence.length * shape.hidden_size * width
        reason = "litgpt's copy of a quantized model's embeddings, and its gradient, are not simulated"
        yield reason, 2 * table + 4 * states


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Gpt:
    """Load the model (and its adapters) in the simulator."""
    return Gpt(tape, shape, workload, kind)
