"""Methods that are counted as supervised fine-tuning of the same model, and what each has on top.

Logits are counted in copies in fp32. Sources: ``KTOTrainer`` (TRL 0.24 to 1.6; LLaMA-Factory 0.9.5 has the
same steps in train/kto/trainer.py) and ``PairwiseTrainer`` (LLaMA-Factory, train/rm/trainer.py).
"""

from __future__ import annotations

from memplan.dialects.fields import Value
from memplan.dialects.trainer.pairs import REFERENCE
from memplan.dialects.unmodelled import placed
from memplan.domain.architecture import Architecture
from memplan.domain.workload import Unmodelled, Workload

_UNPAIRED = Unmodelled(
    reason="mismatched answers pass through the model and its reference too, and logits are copied by answer",
    shrinks=("logits_and_loss",),
    grows=("temporaries",),
    logits=4,
)
"""The policy's logits and their log-softmax wait, and copies of them by answer, while the reference's own are
made twice."""


def beyond(value: Value, why: str) -> Unmodelled:
    """A method with models or batches that nothing bounds."""
    return placed(value, Unmodelled(reason=f"counted as SFT: {why}", unbounded=True))


def unpaired(value: Value, *, reference: bool) -> tuple[Unmodelled, ...]:
    """KTO: answers to other prompts, and a reference that is the model itself or (``reference``) a copy."""
    found = placed(value, _UNPAIRED)
    return (found, placed(value, REFERENCE)) if reference else (found,)


def rewarded(value: Value, run: Workload) -> Unmodelled:
    """A reward model: logits that no loss is made of, all hidden states, and a head with one output."""
    width = run.model.hidden_size if isinstance(run.model, Architecture) else 0
    head = Unmodelled(
        reason="counted as SFT: a reward model keeps hidden states, and makes one score of them",
        shrinks=("logits_and_loss",),
        grows=("activations",),
        adds=_HEAD * (width + 1),
        logits=2,
    )
    return placed(value, head)


_HEAD = 16
"""Bytes of a parameter in fp32 with its gradient and two states of AdamW."""
