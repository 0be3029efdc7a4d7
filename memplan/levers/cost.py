"""How long a training step takes, roughly: a roofline that ranks plans and promises nothing else.

Symbols: T tokens of one forward pass (micro-batch × sequence), S sequence, L blocks, a = heads ×
head_dim, N weights that take part in matrix products, A weights of LoRA adapters.

FLOPs of one pass (a multiply and an add count as two):

- forward 2·N·T; gradients with respect to inputs 2·N·T; with respect to weights 2·(trained)·T, hence
  6·N·T in full training (Kaplan et al., arXiv:2001.08361, §2.1) and 4·N·T + 6·A·T with LoRA, whose
  frozen weights need no gradient (Hu et al., arXiv:2106.09685, §4.2);
- attention 4·T·S·a per block forward (two products), twice that backward. Kernels that never
  store the scores skip the masked half, and compute the scores again in backward: 2.5 times the
  forward (Dao, arXiv:2307.08691, §4.1);
- of experts only those count that a token passes, though all weights are read;
- checkpointed blocks run their forward once more (Korthikanti et al., arXiv:2205.05198, §5).

Bytes of one pass: every weight read once per forward, backward and recomputation, gradients written
once, and for attention that stores its scores the traffic of the score matrix. The optimizer reads
and writes weights, gradients and states once per step. A pass takes the longer of its arithmetic at
the GPU's dense rate and its traffic at full bandwidth, plus a gap per kernel. Left out: activation
traffic of norms and element-wise kernels, communication, input loading, and how far real kernels stay
below these rates. They affect plans for the same model alike, which is why ratios are used and times are not.
"""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.target import Target
from memplan.domain.workload import Attention, Task, Workload

KERNEL_GAP = 4e-6
"""Seconds lost between two kernels launched one by one. NVIDIA's "Getting Started with CUDA Graphs" (2019)
finds 1 µs when launches overlap execution and 7 µs when each is waited for; the middle, as an order of
magnitude that ranks micro-batches which are equal otherwise."""

KERNELS_FORWARD = 20
KERNELS_BACKWARD = 40
"""Kernels of one decoder block: seven products, two norms, rotary embedding, attention, gate, residuals."""

SCORE_BYTES_FORWARD = 20
SCORE_BYTES_BACKWARD = 40
"""Traffic per attention score when scores are stored: written in half precision (2), read and written
by the mask (4), by a softmax in fp32 (6) and its cast back (6), read by the second product (2); backward
handles the scores and their gradient."""

NOMINAL_FLOPS = 1e14
NOMINAL_BANDWIDTH = 1e12
"""Rates of a target known only by its memory: 100 FLOPs per byte, between an RTX 3090 (76) and an A100
(153) in bf16. Only their ratio matters."""

_STORES_SCORES = (Attention.EAGER, Attention.MATH)
_PROJECTION_COMPONENT = "blocks"


def slowdown(before: Workload, after: Workload, target: Target | None) -> float:
    """Time per token of ``after`` relative to ``before``: 1.3 is 30 % slower. 1.0 for declared models."""
    slow, fast = _seconds_per_token(after, target), _seconds_per_token(before, target)
    return slow / fast if slow and fast else 1.0


def _seconds_per_token(workload: Workload, target: Target | None) -> float:
    if not isinstance(workload.model, Architecture) or workload.task is not Task.TRAIN:
        return 0.0
    work = _Pass.of(workload, workload.model)
    rate, bandwidth = _rates(workload, target)
    one_pass = max(work.flops / rate, work.traffic / bandwidth) + work.kernels * KERNEL_GAP
    step = workload.batch.accumulation * one_pass + _optimizer_traffic(workload, workload.model) / bandwidth
    return step / (workload.batch.micro * workload.batch.accumulation * workload.sequence.length)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """One forward and backward pass: operations, bytes moved, kernels started."""

    flops: float
    traffic: float
    kernels: float

    @classmethod
    def of(cls, workload: Workload, model: Architecture) -> _Pass:
        tokens = workload.batch.micro * workload.sequence.length
        layers = model.num_hidden_layers
        recomputed = _recomputed_share(workload, layers)
        weights, in_blocks = _product_weights(model)
        adapters, trained = _trained_weights(workload, model)
        idle = _idle_weights(model)
        busy = weights - idle + adapters
        trained_busy = trained - idle if workload.adapter is None else trained
        block_forward = 2 * (in_blocks - idle + adapters) * tokens
        attention, attention_backward = _attention_flops(workload, model)
        forward = 2 * busy * tokens + attention
        backward = 2 * busy * tokens + 2 * trained_busy * tokens + attention_backward
        scores = _score_traffic(workload, model)
        itemsize = _compute_dtype(workload).itemsize
        weight_reads = weights * (2 + recomputed * in_blocks / weights) * itemsize
        gradient_writes = trained * _gradient_dtype(workload).itemsize
        return cls(
            flops=forward + backward + recomputed * (block_forward + attention),
            traffic=weight_reads
            + gradient_writes
            + scores * (SCORE_BYTES_FORWARD * (1 + recomputed) + SCORE_BYTES_BACKWARD),
            kernels=layers * (KERNELS_FORWARD * (1 + recomputed) + KERNELS_BACKWARD),
        )


def _recomputed_share(workload: Workload, layers: int) -> float:
    every = workload.checkpointing.every
    return -(-layers // every) / layers if every and layers else 0.0


def _product_weights(model: Architecture) -> tuple[int, int]:
    """Weights in matrix products, of the model and of its blocks; an embedding is a lookup, a head is not."""
    blocks = sum(group.parameters for group in model.groups if group.component == _PROJECTION_COMPONENT)
    return blocks + model.vocab_size * model.hidden_size, blocks


def _idle_weights(model: Architecture) -> int:
    """Weights of the experts that a token does not pass: read like the others, but not multiplied with."""
    mixture = model.mixture
    if mixture is None:
        return 0
    experts = sum(group.parameters for group in model.groups if len(group.shape) == 3)
    return experts * (mixture.experts - mixture.chosen) // mixture.experts


def _trained_weights(workload: Workload, model: Architecture) -> tuple[int, int]:
    """Weights of the adapters, and of everything that gets a gradient."""
    adapter = workload.adapter
    if adapter is None:
        return 0, model.parameters
    wrapped = [
        group
        for group in model.groups
        if len(group.shape) == 2 and not set(adapter.targets).isdisjoint(group.name.split("."))
    ]
    weights = sum(adapter.rank * sum(group.shape) * group.copies for group in wrapped)
    return weights, weights


def _attention_flops(workload: Workload, model: Architecture) -> tuple[float, float]:
    width = model.num_attention_heads * model.head_dim
    seen = min(workload.sequence.length, model.sliding_window or workload.sequence.length)
    tokens = workload.batch.micro * workload.sequence.length
    full = 4.0 * tokens * seen * width * model.num_hidden_layers
    if workload.attention in _STORES_SCORES:
        return full, 2 * full
    forward = full if workload.causal_mask else full / 2
    return forward, 2.5 * forward


def _score_traffic(workload: Workload, model: Architecture) -> int:
    if workload.attention not in _STORES_SCORES:
        return 0
    scores = workload.batch.micro * model.num_attention_heads * workload.sequence.length**2
    return scores * model.num_hidden_layers


def _optimizer_traffic(workload: Workload, model: Architecture) -> float:
    _, trained = _trained_weights(workload, model)
    own = workload.adapter.dtype if workload.adapter else workload.precision.params
    state = workload.precision.optimizer_state or own
    states = 2 if workload.optimizer.name.startswith("adam") else 0
    return trained * (2 * own.itemsize + _gradient_dtype(workload).itemsize + 2 * states * state.itemsize)


def _gradient_dtype(workload: Workload) -> Dtype:
    own = workload.adapter.dtype if workload.adapter else workload.precision.params
    return workload.precision.gradients or own


def _compute_dtype(workload: Workload) -> Dtype:
    if workload.quantization is not None:
        return workload.quantization.compute
    return workload.compute


def _rates(workload: Workload, target: Target | None) -> tuple[float, float]:
    if target is None or target.gpu is None:
        return NOMINAL_FLOPS, NOMINAL_BANDWIDTH
    label = _compute_dtype(workload).label
    tflops = target.gpu.tflops
    rate = tflops.get(label) or tflops.get(Dtype.FP32.label) or NOMINAL_FLOPS / 1e12
    return rate * 1e12, float(target.gpu.bandwidth)
