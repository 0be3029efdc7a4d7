"""What would free a component: settings that a run does not have yet, by their native names.

Each is a setting that ``--set`` takes, so that what it saves can be asked for instead of guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Outputs, Task, Workload

WEIGHTS = ("embeddings", "decoder_matrix", "blocks")
PER_TOKEN = ("activations", "logits_and_loss", "temporaries")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A setting, the components it frees, what it does to them, and the lever that plans it, if one does."""

    setting: str
    frees: tuple[str, ...]
    effect: str
    applies: Callable[[Workload, Phase], bool]
    lever: str | None = None


def _trains(workload: Workload) -> bool:
    return workload.task is Task.TRAIN


REMEDIES = (
    Remedy(
        setting="checkpointing=full",
        frees=("activations",),
        effect="each block keeps its input alone and computes the rest again",
        applies=lambda workload, _: (
            _trains(workload) and not workload.checkpointing.full and workload.checkpointing.chunk == 1
        ),
        lever="checkpointing",
    ),
    Remedy(
        setting="checkpointing={every: 1, offload: true}",
        frees=("activations",),
        effect="blocks' inputs wait in host memory",
        applies=lambda workload, _: (
            _trains(workload) and workload.checkpointing.full and not workload.checkpointing.offload
        ),
    ),
    Remedy(
        setting="attention=sdpa",
        frees=("activations", "temporaries"),
        effect="no matrix of scores is kept per head",
        applies=lambda workload, _: workload.attention is Attention.EAGER,
        lever="attention",
    ),
    Remedy(
        setting="loss=fused_linear",
        frees=("logits_and_loss",),
        effect="logits exist a chunk of tokens at a time",
        applies=lambda workload, _: _trains(workload) and workload.loss.kind == "cross_entropy",
    ),
    Remedy(
        setting="loop.outputs=dropped",
        frees=("logits_and_loss",),
        effect="the training loop does not hold logits while backward runs",
        applies=lambda workload, _: _trains(workload) and workload.outputs is not Outputs.DROPPED,
    ),
    Remedy(
        setting="batch.micro=1",
        frees=PER_TOKEN,
        effect="fewer sequences at a time, as many per step with batch.accumulation",
        applies=lambda workload, phase: workload.batch.micro > 1 and phase is not Phase.OPTIMIZER,
        lever="micro_batch",
    ),
    Remedy(
        setting="adapter={kind: lora}",
        frees=("gradients", "optimizer_state", "temporaries"),
        effect="only adapters are trained",
        applies=lambda workload, phase: (
            _trains(workload) and workload.adapter is None and phase is not Phase.FORWARD
        ),
        lever="adapter",
    ),
    Remedy(
        setting="optimizer.name=adamw_8bit",
        frees=("optimizer_state",),
        effect="moments take one byte each",
        applies=lambda workload, _: _trains(workload) and workload.optimizer.name == "adamw",
    ),
    Remedy(
        setting="optimizer.implementation=fused",
        frees=("temporaries",),
        effect="the update makes no temporary of every parameter at once",
        applies=lambda workload, phase: (
            phase is Phase.OPTIMIZER
            and (workload.optimizer.name, workload.optimizer.implementation) == ("adamw", "foreach")
        ),
    ),
    Remedy(
        setting="optimizer.set_to_none=true",
        frees=("gradients",),
        effect="gradients do not outlive the optimizer's step",
        applies=lambda workload, phase: (
            _trains(workload) and not workload.optimizer.set_to_none and phase is not Phase.OPTIMIZER
        ),
    ),
    Remedy(
        setting="precision.params=bf16",
        frees=(*WEIGHTS, "gradients", "optimizer_state"),
        effect="two bytes per parameter instead of four, with bf16's rounding",
        applies=lambda workload, _: (
            workload.precision.params is Dtype.FP32
            and workload.adapter is None
            and workload.quantization is None
        ),
    ),
    Remedy(
        setting="quantization={kind: nf4}",
        frees=("blocks",),
        effect="frozen linear weights take four bits",
        applies=lambda workload, _: workload.adapter is not None and workload.quantization is None,
    ),
)


def remedies(component: str, workload: Workload, phase: Phase) -> tuple[Remedy, ...]:
    """What would free a component of a run whose peak is in a phase; nothing for declared models."""
    if not isinstance(workload.model, Architecture):
        return ()
    return tuple(
        remedy for remedy in REMEDIES if component in remedy.frees and remedy.applies(workload, phase)
    )
