"""The LM head and the loss: its products, and how often logits pass through memory.

b is the itemsize of logits. Cross-entropy as transformers computes it (loss_utils.py) casts logits up (b+4),
normalises them (8), and in backward does both again (8 and 4+b). Liger's kernel reads them twice and puts the
gradient in their place (3b). Liger's fused linear loss does that for a few tokens at a time, and adds to the
whole gradient of the head every time (``fused_linear_cross_entropy_forward`` in Liger-Kernel
src/liger_kernel/ops/fused_linear_cross_entropy.py, where the number of chunks is about vocabulary ÷ width).
Cut cross-entropy keeps logits out of memory and computes them again in backward (Wijmans et al.,
arXiv:2411.09009).
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.workload import Workload
from memplan.levers.cost.facts import Facts
from memplan.levers.cost.products import gradient_seconds, product_seconds
from memplan.levers.cost.rates import Rates


def loss_seconds(
    facts: Facts, workload: Workload, tokens: int, rates: Rates, *, trained: bool
) -> tuple[float, float]:
    """Forward and backward pass of head and loss; ``trained`` says whether the head gets a gradient."""
    dtype = head_dtype(workload)
    kind, b = workload.loss.kind, dtype.itemsize
    chunks = _chunks(facts, workload, tokens)
    rows = tokens / chunks
    once = chunks * product_seconds(rows, facts.vocabulary, facts.hidden, dtype, rates)
    grown = chunks * gradient_seconds(rows, facts.vocabulary, facts.hidden, dtype, rates) if trained else 0.0
    logits = tokens * facts.vocabulary / rates.bandwidth
    if kind == "cut_cross_entropy":
        return once, 2 * once + grown
    if kind in ("fused_linear", "liger_cross_entropy"):
        if kind == "fused_linear" and trained:
            grown += (chunks - 1) * 2 * b * facts.head / rates.bandwidth
        return once + 3 * b * logits, once + grown
    up, down = (b + 4, 4 + b) if b < 4 else (0, 0)
    return once + (up + 8) * logits, once + grown + (8 + down) * logits


def head_dtype(workload: Workload) -> Dtype:
    """What the head computes in: PEFT makes it fp32 for a quantized model, unless that is undone."""
    adapter, autocast = workload.adapter, workload.precision.autocast
    if autocast is not None:
        return autocast
    if adapter is not None and adapter.prepare_kbit and not adapter.half_embeddings:
        return Dtype.FP32
    return workload.compute


def _chunks(facts: Facts, workload: Workload, tokens: int) -> int:
    if workload.loss.kind == "chunked":
        return max(1, min(workload.loss.chunks, tokens))
    if workload.loss.kind == "fused_linear":
        return max(1, min(-(-facts.vocabulary // facts.hidden), tokens))
    return 1
