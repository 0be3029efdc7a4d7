"""Autoregressive generation: a forward pass over the prompt, then one over a token at a time.

The prompt costs arithmetic; a new token costs reading all weights and the keys and values of those before it
(Pope et al., arXiv:2211.05102, §2). That 4-bit weights need no unpacking for a single token is left out.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Workload
from memplan.levers.cost.facts import Facts, facts_of
from memplan.levers.cost.kernels import (
    attention_seconds,
    compute_dtype,
    launches,
    traffic,
    weight_traffic,
)
from memplan.levers.cost.products import blocks_once, product_seconds
from memplan.levers.cost.rates import KERNEL_GAP, Rates


def seconds_per_generated(workload: Workload, model: Architecture, rates: Rates) -> float:
    """Modelled seconds per new token of one sequence."""
    facts = facts_of(model)
    generate, micro = workload.generate, workload.batch.micro
    prompt = micro * generate.prompt
    attention, _ = attention_seconds(facts, workload, prompt, generate.prompt, rates)
    logits = prompt if generate.logits == "all" else micro
    prefill = _pass(facts, workload, prompt, logits, rates) + attention
    context = generate.prompt + generate.new_tokens / 2
    cached = 2.0 * micro * context * facts.keys * facts.depth * compute_dtype(workload).itemsize
    decoding = _pass(facts, workload, micro, micro, rates) + cached / rates.bandwidth
    return prefill / (micro * max(1, generate.new_tokens)) + decoding / micro


def _pass(facts: Facts, workload: Workload, tokens: int, logits: int, rates: Rates) -> float:
    dtype = compute_dtype(workload)
    products = blocks_once(facts, tokens, dtype, rates)
    head = product_seconds(logits, facts.vocabulary, facts.hidden, dtype, rates)
    moved = (tokens * traffic(facts, workload) + weight_traffic(facts, workload)) / rates.bandwidth
    return products + head + moved + launches(facts, workload, None) * KERNEL_GAP
