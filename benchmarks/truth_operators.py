"""Single operators that others measured: the ops of a training step, run as their benchmarks run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from memplan.domain.dtype import Dtype
from memplan.domain.framework import Framework
from memplan.domain.trace import Trace
from memplan.simulator import liger, ops
from memplan.simulator.activations import tanh
from memplan.simulator.allocator import Allocator
from memplan.simulator.autograd import Leaf, Node, run_graph
from memplan.simulator.blocks import RMSNorm, Store
from memplan.simulator.fused_loss import fused_linear
from memplan.simulator.loss import log_softmax, nll_loss
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Tape, Tensor

TOTAL, FORWARD, BACKWARD, BOTH = "operator_peak", "forward_extra", "backward_extra", "both_extra"
"""Peaks with everything there was before, and peaks above it: of forward, of backward, of both."""

A100 = (8, 0)

Marks = list[int]
Facts = Mapping[str, Any]


def estimated(facts: Facts) -> dict[str, int]:
    """Bytes by metric of an operator as ``measured.yaml`` describes it."""
    framework = Framework(liger=str(facts.get("liger", Framework().liger)))
    return OPERATORS[str(facts["kind"])](Tape(A100, framework), facts)


def _cross_entropy(tape: Tape, facts: Facts) -> dict[str, int]:
    """``CrossEntropyLoss`` of logits or Liger's, again and again, their gradient staying.

    Source: ``bench_memory_cross_entropy`` in Liger-Kernel benchmark/scripts/benchmark_cross_entropy.py (0.3).
    """
    logits = _leaf(tape, (facts["tokens"], facts["vocabulary"]), Dtype.FP32)
    labels = tape.empty((facts["tokens"],), Dtype.INT64, "labels")
    if facts.get("kernels") == "liger":
        return _repeated(tape, lambda: _backward(liger.cross_entropy(logits, labels)))
    return _repeated(tape, lambda: _backward(nll_loss(log_softmax(logits), labels)))


def _rms_norm(tape: Tape, facts: Facts) -> dict[str, int]:
    """``LlamaRMSNorm`` with a weight in fp32 and an input in half precision, beside Liger's.

    Source: ``bench_memory_rms_norm`` in Liger-Kernel benchmark/scripts/benchmark_rms_norm.py (0.3).
    """
    store = Store(tape, Dtype.FP32, trainable=True)
    norms = [RMSNorm(store, name, facts["width"]) for name in ("liger", "llama")]
    x = _leaf(tape, (facts["tokens"], facts["width"]), Dtype.parse(facts["dtype"]))
    gradient = tape.empty(x.shape, x.dtype, "randn_like")
    return _repeated(tape, lambda: _retaining(norms[1](x), gradient))


def _gated_mlp(tape: Tape, facts: Facts) -> dict[str, int]:
    """``LlamaMLP`` or Liger's.

    Source: ``bench_memory_swiglu`` in Liger-Kernel benchmark/scripts/benchmark_swiglu.py (0.3).
    """
    dtype, width, inner = Dtype.parse(facts["dtype"]), facts["width"], facts["inner"]
    x = _leaf(tape, (facts["batch"], facts["length"], width), dtype)
    store = Store(tape, dtype, trainable=True)
    gate, up = (store.parameter(name, (inner, width)) for name in ("gate", "up"))
    down = store.parameter("down", (width, inner))

    def product(first: Tensor, second: Tensor) -> Tensor:
        return liger.gated(first, second) if kernels == "liger" else ops.mul(ops.silu(first), second)

    kernels = facts.get("kernels")

    def full() -> None:
        y = linear(product(linear(x, gate), linear(x, up)), down)
        _retaining(y, tape.empty(y.shape, y.dtype, "randn_like"))

    return _repeated(tape, full)


def _softcapped_loss(tape: Tape, facts: Facts) -> dict[str, int]:
    """Logits, capped by ``tanh``, upcast, and their cross-entropy; its extra memory, phase by phase.

    Source: ``baseline`` in apple/ml-cross-entropy benchmark/__main__.py, ``Stats.measure`` in its memory.py.
    """
    dtype = Dtype.parse(facts["dtype"])
    x = _leaf(tape, (facts["tokens"], facts["width"]), dtype)
    head = _leaf(tape, (facts["vocabulary"], facts["width"]), dtype)
    labels = tape.empty((facts["tokens"],), Dtype.INT64, "labels")
    # Every benchmark is run once before it is measured.
    _warm(tape)
    marks = [len(tape.trace.events)]

    def baseline() -> Tensor:
        logits = linear(x, head)
        logits = ops.mul_scalar(tanh(ops.mul_scalar(logits)))
        return nll_loss(log_softmax(ops.to(logits, Dtype.FP32)), labels)

    loss = baseline()
    marks.append(len(tape.trace.events))
    _backward(loss)
    marks.append(len(tape.trace.events))
    (before, between, _), peaks = _held(tape.trace, marks)
    return {
        FORWARD: peaks[1] - before,
        BACKWARD: peaks[2] - between,
        BOTH: max(peaks[1:]) - before,
    }


def _fused_linear(tape: Tape, facts: Facts) -> dict[str, int]:
    """Liger's loss of hidden states and a head, beside another head; its speed was measured before.

    Source: ``bench_memory_fused_linear_cross_entropy`` in Liger-Kernel
    benchmark/scripts/benchmark_fused_linear_cross_entropy.py (0.3).
    """
    dtype = Dtype.parse(facts["dtype"])
    store = Store(tape, dtype, trainable=True)
    heads = [store.parameter(name, (facts["vocabulary"], facts["width"])) for name in ("torch", "liger")]
    x = _leaf(tape, (facts["tokens"], facts["width"]), dtype)
    labels = tape.empty((facts["tokens"],), Dtype.INT64, "labels")
    _warm(tape)
    found = _repeated(tape, lambda: _backward(fused_linear(x, heads[1])))
    del labels
    return found


OPERATORS: dict[str, Callable[[Tape, Facts], dict[str, int]]] = {
    "cross_entropy": _cross_entropy,
    "rms_norm": _rms_norm,
    "gated_mlp": _gated_mlp,
    "fused_linear": _fused_linear,
    "softcapped_loss": _softcapped_loss,
}


def _warm(tape: Tape) -> None:
    """Both threads have made products before, so that they have their workspaces."""
    for tape.in_backward in (True, False):
        tape.take_workspace()


def _leaf(tape: Tape, shape: tuple[int, ...], dtype: Dtype) -> Tensor:
    """``torch.randn(…, requires_grad=True)``."""
    tensor = tape.empty(shape, dtype, "randn")
    tensor.node = Leaf(tensor, "input")
    return tensor


def _repeated(tape: Tape, run: Callable[[], None]) -> dict[str, int]:
    """The peak of a run when gradients are there from the last."""
    run()
    marks = [len(tape.trace.events)]
    run()
    marks.append(len(tape.trace.events))
    return {TOTAL: _held(tape.trace, marks)[1][1]}


def _backward(loss: Tensor) -> None:
    assert loss.node is not None
    run_graph(loss.node, loss.tape.empty(loss.shape, loss.dtype, "ones_like"))


def _retaining(result: Tensor, gradient: Tensor) -> None:
    """``result.backward(gradient, retain_graph=True)``: what nodes saved stays until the graph goes."""
    assert result.node is not None
    kept = [node.saved for node in _graph(result.node)]
    if gradient.dtype is not result.dtype:
        gradient = ops.to(gradient.detach(), result.dtype)
    run_graph(result.node, gradient)
    del kept


def _graph(root: Node) -> list[Node]:
    found, waiting = {root: None}, [root]
    while waiting:
        new = [edge for edge in waiting.pop().edges if edge is not None and edge not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return list(found)


def _held(trace: Trace, marks: Marks) -> tuple[list[int], list[int]]:
    """Bytes in use at every mark, and the peak of the stretch that ends there."""
    allocator, addresses = Allocator(), dict[int, int]()
    held, peaks, highest = [], [], 0
    for index, event in enumerate([*trace.events, None]):
        if index in marks:
            held.append(allocator.allocated)
            peaks.append(highest)
            highest = allocator.allocated
        if event is None:
            break
        if event < 0:
            allocator.release(addresses.pop(~event))
        else:
            addresses[event] = allocator.allocate(trace.sizes[event])
        highest = max(highest, allocator.allocated)
    return held, peaks
