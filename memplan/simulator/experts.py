"""Mixtures of experts: routers' parts, and the experts as transformers runs them by default.

All experts of a layer are two three-dimensional parameters. Tokens are sorted by expert and pass one
``grouped_mm`` per projection (``grouped_mm_experts_forward`` in transformers
src/transformers/integrations/moe.py, the default of 5.x). The sizes of its tensors depend on how many experts
a token passes and not on which: routing, which is data, decides nothing here.

Shapes: T tokens, k experts per token, S = T·k rows sorted by expert, E experts, h hidden, f expert width.
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.domain.architecture import Mixture
from memplan.domain.dtype import Dtype
from memplan.simulator import indexing, inplace, ops, shapes, sums
from memplan.simulator.activations import Activation
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.blocks import Store
from memplan.simulator.matmul import cast
from memplan.simulator.ops import finish
from memplan.simulator.parameter_adapters import AdaptedParameter, AdaptedParameters
from memplan.simulator.splits import split_last
from memplan.simulator.tensor import Parameter, Tensor

_GROUPED_KERNEL = (8, 0)
"""Oldest compute capability with a ``grouped_mm``; below, transformers falls back on an op of its own."""


def gated(gate_up: Tensor, act: Activation) -> Tensor:
    """``_default_apply_gate``: ``act(gate) * up``."""
    width = gate_up.shape[-1] // 2
    gate, up = split_last(gate_up, (width, width))
    return ops.mul(act(gate), up)


Weight = Parameter | AdaptedParameter


def _current(weight: Weight) -> Tensor:
    return weight.value() if isinstance(weight, AdaptedParameter) else weight


class Experts:
    """Gated MLPs of one layer. ``transposed`` says that weights are (E, in, out) rather than (E, out, in).

    An adapter may take the place of either weight (``adapt``).
    """

    __slots__ = (
        "act",
        "adapted",
        "down",
        "down_bias",
        "gate_up",
        "gate_up_bias",
        "mixture",
        "name",
        "transposed",
    )

    gate_up: Weight
    down: Weight

    def __init__(
        self,
        store: Store,
        name: str,
        hidden: int,
        mixture: Mixture,
        *,
        act: Activation,
        transposed: bool = False,
        bias: bool = False,
    ) -> None:
        count, width = mixture.experts, mixture.width
        self.mixture = mixture
        self.name = name
        self.act = act
        self.transposed = transposed
        self.adapted: AdaptedParameters | None = None
        up, down = (2 * width, hidden), (hidden, width)
        self.gate_up = store.parameter(f"{name}.gate_up_proj", (count, *(up[::-1] if transposed else up)))
        self.gate_up_bias = store.parameter(f"{name}.gate_up_proj_bias", (count, up[0])) if bias else None
        self.down = store.parameter(f"{name}.down_proj", (count, *(down[::-1] if transposed else down)))
        self.down_bias = store.parameter(f"{name}.down_proj_bias", (count, down[0])) if bias else None

    def adapt(self, ranks: Mapping[str, int], adapters: Store) -> None:
        """Give adapters of some ranks to weights; the wrapper of ``down_proj`` is the outer one."""
        wrapped: list[AdaptedParameter] = []
        for place, name in (("gate_up", "gate_up_proj"), ("down", "down_proj")):
            weight = getattr(self, place)
            if name in ranks:
                weight = AdaptedParameter(weight, ranks[name], adapters, transposed=self.transposed)
                wrapped.insert(0, weight)
                setattr(self, place, weight)
        if wrapped:
            self.adapted = AdaptedParameters(wrapped)

    def __call__(self, hidden_states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Tokens (T, h), their experts (T, k) and weights (T, k) → tokens (T, h)."""
        if self.adapted is None:
            return self._run(hidden_states, chosen, weights)
        self.adapted.open()
        try:
            return self._run(hidden_states, chosen, weights)
        finally:
            self.adapted.close()

    def _run(self, hidden_states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        hidden_states.tape.scope = self.name
        cache = hidden_states.tape.cache
        if cache is not None and cache.decoding:
            return self._batched(hidden_states, chosen, weights)
        tokens, width = hidden_states.shape
        count = chosen.shape[-1]
        weights = shapes.view(weights, (tokens * count,))
        expert_ids, order = indexing.sort(shapes.view(chosen, (tokens * count,)))
        selected = indexing.rows(hidden_states, ops.like(order, "floor_divide"))
        sorted_weights = indexing.rows(weights, order)
        offsets, _counted = self._offsets(expert_ids)
        weight, bias = _current(self.gate_up), self._rows_of(self.gate_up_bias, expert_ids)
        output = self._project(selected, weight, offsets, bias)
        output = self.apply_gate(output)
        weight, bias = _current(self.down), self._rows_of(self.down_bias, expert_ids)
        output = self._project(output, weight, offsets, bias)
        weighted = ops.mul(output, shapes.unsqueeze(sorted_weights, 1))
        inverse = ops.like(order, "empty_like")
        ops.like(order, "arange")
        weighted = indexing.rows(weighted, inverse)
        final = sums.over(shapes.view(weighted, (tokens, count, width)), 1)
        return ops.to(final, hidden_states.dtype)

    def _batched(self, hidden_states: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """``batched_mm_experts_forward``: a copy of its experts' weights for every token.

        ``generate`` switches to it for decoding on GPUs (``_optimize_model_for_decode`` in transformers
        src/transformers/generation/utils.py).
        """
        tokens, width = hidden_states.shape
        count = chosen.shape[-1]
        tape = hidden_states.tape
        selected = tape.empty((tokens * count, width), hidden_states.dtype, "repeat_interleave")
        sample_weights = shapes.view(weights, (tokens * count,))
        expert_ids = shapes.view(chosen, (tokens * count,))
        matrices = indexing.rows(_current(self.gate_up), expert_ids)
        biases = self._rows_of(self.gate_up_bias, expert_ids)
        output = self._multiplied(selected, matrices, biases)
        output = self.apply_gate(output)
        matrices = indexing.rows(_current(self.down), expert_ids)
        biases = self._rows_of(self.down_bias, expert_ids)
        output = self._multiplied(output, matrices, biases)
        weighted = ops.mul(output, shapes.unsqueeze(sample_weights, 1))
        final = sums.over(shapes.view(weighted, (tokens, count, width)), 1)
        return ops.to(final, hidden_states.dtype)

    def _multiplied(self, x: Tensor, matrices: Tensor, bias: Tensor | None) -> Tensor:
        """``_batched_linear``: one product per row; the bias is added in place."""
        x, matrices = cast(x), cast(matrices)
        x.tape.take_workspace()
        outputs = matrices.shape[2 if self.transposed else 1]
        result = x.tape.empty((x.shape[0], outputs), x.dtype, "bmm")
        return result if bias is None else inplace.add(result, bias)

    def apply_gate(self, gate_up: Tensor) -> Tensor:
        """What becomes of the first projection (S, 2f): (S, f)."""
        return gated(gate_up, self.act)

    def _offsets(self, expert_ids: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Where each expert's rows end (E int32), and what stays beside it: ids as int32, counts."""
        as_int = indexing.integers(expert_ids, expert_ids.shape, "int", Dtype.INT32)
        counts = indexing.integers(expert_ids, (self.mixture.experts,), "histc", Dtype.INT32)
        return indexing.integers(expert_ids, counts.shape, "cumsum", Dtype.INT32), (as_int, counts)

    def _rows_of(self, bias: Tensor | None, expert_ids: Tensor) -> Tensor | None:
        return None if bias is None else indexing.rows(bias, expert_ids)

    def _project(self, x: Tensor, weight: Tensor, offsets: Tensor, bias: Tensor | None) -> Tensor:
        """``_grouped_linear``: the bias, one row per token, is added in place."""
        if not self.transposed:
            weight = shapes.transpose(weight, 1, 2)
        result = grouped_mm(ops.to(x, weight.dtype), weight, offsets)
        return result if bias is None else inplace.add(result, bias)


def grouped_mm(x: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
    """``F.grouped_mm``: rows (S, in) of each group times its matrix of ``weight`` (E, in, out).

    Not among the ops that autocast casts. The weights' gradient comes first and in their own layout
    (``_grouped_mm_mat2_backward`` and ``_grouped_mm_mat1_backward`` in
    torch/csrc/autograd/FunctionsManual.cpp). What Hopper's kernel takes for its arguments, less than
    1 MiB for as long as it runs, is left out.
    """
    tape = x.tape
    if tape.capability < _GROUPED_KERNEL:
        return _one_by_one(x, weight)
    sides, strides = weight.shape, weight.strides

    def run(node: Node, gradient: Tensor) -> Gradients:
        x, weight, _ = node.unpack()
        tape.take_workspace()
        of_weight = of_x = None
        if x is not None:
            product = tape.empty(sides, gradient.dtype, "grouped_mm", strides)
            of_weight = product.alias(sides, strides)
        if weight is not None:
            of_x = tape.empty((gradient.shape[0], sides[1]), gradient.dtype, "grouped_mm")
        return of_x, of_weight

    node = begin(run, x, weight)
    if node is not None:
        of_x, of_weight = node.edges
        node.save(tape, x if of_weight else None, weight if of_x else None, offsets)
    tape.take_workspace()
    return finish(node, tape.empty((x.shape[0], sides[2]), x.dtype, "grouped_mm"))


def _one_by_one_backward(node: Node, gradient: Tensor) -> Gradients:
    # _grouped_mm_fallback_bwd: zeros for both gradients, wanted or not.
    x, weight = node.unpack()
    assert x is not None
    assert weight is not None
    tape = gradient.tape
    tape.take_workspace()
    of_x = ops.like(x, "zeros")
    return of_x, tape.empty(weight.shape, weight.dtype, "zeros", weight.strides)


def _one_by_one(x: Tensor, weight: Tensor) -> Tensor:
    """``transformers::grouped_mm_fallback``, one ``mm`` per expert: saves both inputs whatever trains."""
    tape = x.tape
    node = begin(_one_by_one_backward, x, weight)
    if node is not None:
        node.save(tape, x, weight)
    tape.take_workspace()
    return finish(node, tape.empty((x.shape[0], weight.shape[2]), x.dtype, "zeros"))
