"""What a run allocates on a CPU, from what it allocates on a GPU: the rules by which the two differ.

Everything that no rule here names is the same on both, tensor by tensor and in the same order.
"""

from __future__ import annotations

from math import prod

from memplan.domain.dtype import Dtype
from memplan.domain.trace import Tag, Trace
from memplan.domain.workload import Attention, Task, Workload
from memplan.simulator.parameter_adapters import KERNEL_COPY

SORTING = (
    "sort_range",
    "radix_sort",
    "index_remainder",
    "index_linear",
    "index_sorted",
    "index_order",
    "index_range",
    "sorted_indices",
    "orig_indices",
)
"""Bookkeeping of cub's sort, of ``index_put_`` with accumulation and of lookups' gradients, which sort on a
GPU only."""

WARMUP = "warmup"
"""Memory that transformers takes and returns before it loads to a GPU (``caching_allocator_warmup``)."""

WITHIN_KERNELS = ("partial_norms", "softmax_d", "dq_accum", "dk", "dv")
"""A CPU takes the norm of one gradient after the other (``foreach_tensor_norm_slow``), and its FlashAttention
adds up gradients where they are to be, by blocks whose memory is too small to count
(``cpu_flash_attention_backward`` in aten/src/ATen/native/cpu/FlashAttentionKernel.cpp)."""

SCORES = 4
"""Sides of the scores of attention."""

FP32 = Dtype.FP32.itemsize


def left_out(trace: Trace) -> set[int]:
    """Blocks that exist on a GPU only: workspaces, what sorting takes, and products within kernels."""
    found: set[int] = set()
    last = ""
    for event in trace.events:
        if event < 0:
            continue
        component, _, op, _, _ = trace.tags[event]
        # CUDA multiplies gradient and output of a softmax into a temporary, the CPU's kernel does not.
        within = last == "softmax_backward" and op == "mul"
        if component == "workspace" or op == WARMUP or op in SORTING or op in WITHIN_KERNELS or within:
            found.add(event)
        last = op
    return found


def multiplied(trace: Trace, workload: Workload) -> set[int]:
    """What the unfused attention kernel drops out by: factors in fp32, where a GPU keeps a byte each.

    It calls ``at::dropout``, which is fused on a GPU only (``is_fused_kernel_acceptable`` in
    aten/src/ATen/native/Dropout.cpp).
    """
    if workload.attention is Attention.EAGER:
        return set()
    found: set[int] = set()
    last = ""
    for event in trace.events:
        if event >= 0:
            op = trace.tags[event][2]
            if op == "dropout_mask" and last in ("softmax", "all"):
                found.add(event)
            last = op
    return found


def temporary(trace: Trace, block: int, workload: Workload) -> int:
    """Bytes that a CPU takes and returns right after it made a block.

    Operands of another dtype are cast first, the mask of ``native_dropout`` among them
    (``native_dropout_cpu`` in aten/src/ATen/native/Dropout.cpp); positions are filled from a vector of them;
    scattering half numbers and summing the gradient of attention sinks go through fp32.
    """
    _, scope, op, shape, dtype = trace.tags[block]
    # The unfused attention kernel drops out by factors: see ``multiplied``.
    by_mask = workload.attention is Attention.EAGER or len(shape) < SCORES
    if op == "sort_positions" or (op in ("dropout", "masked_scale") and by_mask):
        return trace.sizes[block]
    if op == "value_selecting_backward" and dtype.is_half:
        return FP32 * prod(shape)
    if scope.endswith("self_attn.sinks") and op == "grad" and dtype.is_half:
        return FP32 * shape[0] * workload.batch.micro * workload.sequence.length
    return trace.mixed.get(block, 0)


def one_by_one(trace: Trace, block: int) -> tuple[int, int]:
    """A GPU copies a factor of all experts at once, a CPU each before its own product: count and size."""
    count = trace.tags[block][3][0]
    return count, trace.sizes[block] // count


def on_cpu(trace: Trace, workload: Workload) -> Trace:
    """The same run on a CPU."""
    skipped = left_out(trace)
    if workload.task is Task.GENERATE:
        skipped |= _statistics(trace)
    return _Writer(trace, workload, skipped).write()


def _statistics(trace: Trace) -> set[int]:
    """Without autograd a CPU's layer norm keeps no statistics, a GPU's does."""
    norms = {tag[1] for tag in trace.tags if tag[2] == "layer_norm"}
    return {block for block, tag in enumerate(trace.tags) if tag[1] in norms and tag[2] in ("mean", "rstd")}


class _Writer:
    """The CPU's trace under way; ``numbers`` says what it calls the blocks of the GPU's."""

    def __init__(self, trace: Trace, workload: Workload, skipped: set[int]) -> None:
        self.trace = trace
        self.workload = workload
        self.skipped = skipped
        self.wide = multiplied(trace, workload)
        self.made = Trace()
        self.numbers: dict[int, int] = {}

    def write(self) -> Trace:
        trace, made = self.trace, self.made
        phases = dict[int, list[int]]()
        for number, (start, _) in enumerate(trace.phases):
            phases.setdefault(start, []).append(number)
        cycles = set(trace.cycles)
        for index in range(len(trace.events) + 1):
            if index in cycles:
                made.cycles.append(len(made.events))
            for number in phases.get(index, ()):
                made.enter(trace.phases[number][1])
            if index < len(trace.events):
                self._event(trace.events[index])
        made.once = {self.numbers[block] for block in trace.once if block in self.numbers}
        return made

    def _event(self, event: int) -> None:
        block = max(event, ~event)
        if block in self.skipped:
            return
        if self.trace.tags[block][2] == KERNEL_COPY:
            if event >= 0:
                count, size = one_by_one(self.trace, block)
                for _ in range(count):
                    self._passing(block, size)
        elif event < 0:
            self.made.free(self.numbers[block])
        else:
            self.made.layer = self.trace.layers[block]
            self.numbers[block] = self.made.allocate(*self._sized(block))
            size = temporary(self.trace, block, self.workload)
            if size:
                self._passing(block, size)

    def _sized(self, block: int) -> tuple[int, Tag]:
        """A block's size and what it is."""
        size, tag = self.trace.sizes[block], self.trace.tags[block]
        return (FP32 * prod(tag[3]), (*tag[:4], Dtype.FP32)) if block in self.wide else (size, tag)

    def _passing(self, block: int, size: int) -> None:
        """A block that is gone at once."""
        component, scope, op, _, _ = self.trace.tags[block]
        self.made.free(self.made.allocate(size, (component, scope, op, (size,), Dtype.UINT8)))
