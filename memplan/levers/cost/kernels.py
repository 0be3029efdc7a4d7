"""Attention, and kernels that only move bytes: norms, positions, gates, casts, adapters, 4-bit weights.

Traffic is counted kernel by kernel, from what the models of transformers call (modeling_llama.py and its
likes): a kernel reads each operand and writes its result once. b is the itemsize of activations:

- an RMSNorm in Python casts up (b+4), squares (8), averages (4), scales (8), casts back (4+b) and
  multiplies (2b); PyTorch's LayerNorm and Liger's RMSNorm read and write once (2b);
- rotary positions multiply twice (4b), negate and join halves (3b) and add (3b); Liger's read and write once;
- a gated MLP activates (2b) and multiplies (3b), others activate; Liger's gate is one kernel (3b);
- two additions to the residual stream in every block (6b);
- scores that are stored are written (b), masked (2b), normalised in fp32 (b+4), cast (4+b), and read (b);
- under autocast weights are cast for the pass, and inputs of layers (4+b each).

Backward reads a gradient besides and writes one for every operand: twice the traffic.
"""

from __future__ import annotations

from memplan.domain.dtype import Dtype
from memplan.domain.kernels import GLU, RMS_NORM, ROPE
from memplan.domain.workload import Attention, Workload
from memplan.levers.cost.facts import Adapted, Facts, seen
from memplan.levers.cost.rates import Rates

BACKWARD = 2.0

STORES_SCORES = (Attention.EAGER, Attention.MATH)

PACKED = 0.5
"""Bytes of a 4-bit weight; its scale for every 64 weights is left out."""

KERNELS = 20
"""Kernels of a block's forward pass: seven products, two norms, positions, attention, gate, residuals."""

ADAPTER_KERNELS = 6
"""Of a LoRA layer: casts, dropout, two products, scaling, addition (``forward`` in PEFT's lora/layer.py)."""

SCORE_KERNELS = 4


def attention_seconds(
    facts: Facts, workload: Workload, tokens: int, length: int, rates: Rates
) -> tuple[float, float]:
    """Forward and backward pass of attention in all blocks.

    4·T·S·a operations in each (two products), twice that backward. Kernels that never store scores skip the
    masked half, and compute the scores again in backward: 2.5 times the forward (Dao, arXiv:2307.08691,
    §4.1). They are never taken to be slower than storing scores.
    """
    dtype = compute_dtype(workload)
    met = seen(facts, length)
    full = 4.0 * tokens * met * facts.queries * facts.depth
    moved = tokens * length * facts.heads * facts.depth * (6 * dtype.itemsize + 8) / rates.bandwidth
    stored = full / rates.of(dtype) + moved
    if workload.attention in STORES_SCORES:
        return stored, BACKWARD * stored
    fused = (full / 2 if facts.causal and not workload.causal_mask else full) / rates.attention(dtype)
    return min(fused, stored), min(2.5 * fused, BACKWARD * stored)


def traffic(facts: Facts, workload: Workload) -> float:
    """Bytes per token that the blocks' other kernels move in one forward pass."""
    b = residual_dtype(workload).itemsize
    liger = workload.kernels.liger
    fused_norm = facts.layer_norm or RMS_NORM in liger
    norm = 2 * b if fused_norm else 4 * b + 28
    rotary = 2 * b if ROPE in liger else 10 * b
    gate = (3 * b if GLU in liger else 5 * b) if facts.gated else 2 * b
    moved = (
        facts.norms * norm
        + facts.rotated * rotary
        + facts.activated * gate
        + 6.0 * b * facts.hidden * facts.depth
    )
    half = compute_dtype(workload).itemsize
    if b > half:
        moved += (b + half) * 3.0 * facts.hidden * facts.depth
    return moved


def weight_traffic(facts: Facts, workload: Workload) -> float:
    """Bytes moved in one pass to make weights that products can use: unpacked or cast."""
    quantization = workload.quantization
    if quantization is not None:
        packed = 1.0 if quantization.kind == "int8" else PACKED
        return facts.weights * (packed + quantization.compute.itemsize)
    own, autocast = workload.precision.params, workload.precision.autocast
    if autocast is None or own.itemsize == autocast.itemsize:
        return 0.0
    return float(facts.weights) * (own.itemsize + autocast.itemsize)


def adapter_traffic(wrapped: Adapted, workload: Workload) -> tuple[float, float]:
    """Bytes per token that LoRA layers move beside their own, forward and backward (PEFT's lora/layer.py).

    o is the adapter's itemsize. The input is cast (b+o) and read (o); what comes out is written (o), scaled
    (2o), added to the layer's own (b+2o) and cast back (o+b). Backward casts (b+o), scales (2o) and reads
    gradients twice (2o), and for the input reads and writes (2o), casts (o+b) and adds (3b).
    """
    adapter = workload.adapter
    if adapter is None:
        return 0.0, 0.0
    b = compute_dtype(workload).itemsize
    o = adapter.dtype.itemsize if workload.precision.autocast is None else b
    cast = b + o if o != b else 0
    drop = 2 * o if adapter.dropout else 0
    forward = wrapped.inputs * (cast + o + drop) + wrapped.outputs * (5 * o + b + cast)
    backward = wrapped.inputs * (cast + 2 * o + 3 * b + drop) + wrapped.outputs * (4 * o + cast)
    return float(forward), float(backward)


def launches(facts: Facts, workload: Workload, wrapped: Adapted | None) -> float:
    """Kernels of one forward pass; experts are called one by one."""
    count = float(facts.depth * KERNELS + facts.experts)
    if workload.attention in STORES_SCORES:
        count += SCORE_KERNELS * facts.depth
    if workload.quantization is not None:
        count += facts.layers
    return count + (ADAPTER_KERNELS * wrapped.layers if wrapped else 0)


def compute_dtype(workload: Workload) -> Dtype:
    """What the blocks' products are made in."""
    return workload.compute if workload.quantization is None else workload.quantization.compute


def residual_dtype(workload: Workload) -> Dtype:
    """What goes from block to block: fp32 if PEFT prepared a quantized model, and under autocast of fp32."""
    adapter = workload.adapter
    if adapter is not None and adapter.prepare_kbit and not adapter.half_embeddings:
        return Dtype.FP32
    if workload.precision.autocast is not None and workload.quantization is None:
        return workload.precision.params
    return compute_dtype(workload)
