"""Models as litgpt writes them (github.com/Lightning-AI/litgpt): one ``GPT`` class with switches."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention, Framework, Workload
from memplan.families.litgpt.design import COVERED, windowed
from memplan.families.litgpt.model import Gpt
from memplan.simulator.tensor import Tape

__all__ = ["build", "covers"]


def covers(shape: Architecture, framework: Framework) -> bool:
    """Whether the model is simulated as this release of litgpt runs it."""
    return shape.model_type in COVERED and not windowed(shape, framework)


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Gpt:
    """Load the model (and its adapters) in the simulator."""
    return Gpt(tape, shape, workload, kind)
