"""Training on completions that the model generates between steps (GRPO), counted as SFT of them."""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.harm import Harm
from memplan.domain.workload import Unmodelled, Workload

PROMPT = 512
"""Tokens of a prompt where nothing bounds them: what older releases of TRL cut them to."""

SHARED = Unmodelled(
    reason="vLLM takes vllm_gpu_memory_utilization of the same GPU, which is not counted", unbounded=True
)


def cached(run: Workload) -> Unmodelled:
    """The keys and values of everything that one optimizer step generates."""
    shape, size = run.model, 0
    if isinstance(shape, Architecture):
        tokens = run.batch.micro * run.batch.accumulation * run.sequence.length
        token = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
        size = token * tokens * run.compute.itemsize
    reason = "keys and values of the completions being generated come on top at most"
    return Unmodelled(reason=reason, adds=size)


def harm(loss: str) -> tuple[Harm, str]:
    """What another micro-batch does to the experiment, by GRPO's ``loss_type``, and why."""
    if loss == "bnpo":
        return Harm.BEHAVIOUR, "this loss of GRPO is an average over the tokens of each micro-batch"
    return Harm.NUMERIC, "GRPO shuffles what it generated and cuts it into other micro-batches"
