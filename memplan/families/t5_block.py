"""One block of T5: self-attention, in the decoder cross-attention, and an MLP, each before a sum.

The forward pass follows transformers' ``modeling_t5.py`` (5.x) statement by statement, because the lifetimes
of its local variables decide the peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention
from memplan.families.encoder import Part, Projection
from memplan.simulator import attention, eager, layout, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.adapters import LoraLinear
from memplan.simulator.autograd import Gradients, Node, begin, require_grad
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.buckets import compute_bias
from memplan.simulator.matmul import cast
from memplan.simulator.norms import T5LayerNorm
from memplan.simulator.tensor import Tensor

Biases = tuple[Tensor, Tensor, Tensor | None]
"""Hidden states, and the position biases of self- and of cross-attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class T5Shape(Architecture):
    """``num_hidden_layers`` counts the encoder's blocks; ``scaled`` hidden states go into the head."""

    decoder_layers: int
    gated: bool
    buckets: int
    scaled: bool

    @property
    def depth(self) -> int:
        """Blocks of both stacks."""
        return self.num_hidden_layers + self.decoder_layers


def dropped(x: Tensor, rate: float) -> Tensor:
    """``nn.Dropout``."""
    return ops.dropout(x) if rate else x


def _where(node: Node, gradient: Tensor) -> Gradients:
    _ = node.unpack()
    return (ops.like(gradient, "where"),)


def _causal(bias: Tensor) -> Tensor:
    """``create_position_bias_mask`` of a decoder: -inf where a key comes later."""
    queries, keys = bias.shape[2:]
    mask = bias.tape.empty((queries, keys), Dtype.BOOL, "ge")
    node = begin(_where, bias)
    if node is not None:
        node.save(bias.tape, mask)
    shape, strides = layout.elementwise((mask.shape, mask.strides), (bias.shape, bias.strides))
    return ops.finish(node, bias.tape.empty(shape, bias.dtype, "where", strides))


class Crossing:
    """``T5Attention``, to itself or to the encoder; only the first of a stack has a table of biases."""

    __slots__ = ("causal", "checkpointed", "kind", "linears", "name", "shape", "table")

    def __init__(
        self,
        store: Store,
        shape: T5Shape,
        kind: Attention,
        name: str,
        *,
        causal: bool,
        has_table: bool,
        checkpointed: bool,
    ) -> None:
        self.shape = shape
        self.kind = kind
        self.name = name
        self.causal = causal
        self.checkpointed = checkpointed
        hidden, inner = shape.hidden_size, shape.num_attention_heads * shape.head_dim
        self.linears: dict[str, Projection] = {
            projection: Linear(store, f"{name}.{projection}", hidden, inner) for projection in ("q", "k", "v")
        }
        self.linears["o"] = Linear(store, f"{name}.o", inner, hidden)
        sides = (shape.buckets, shape.num_attention_heads)
        table = f"{name}.relative_attention_bias.weight"
        self.table = store.parameter(table, sides) if has_table else None

    def __call__(
        self, hidden_states: Tensor, mask: Tensor | None, states: Tensor | None, position_bias: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        query = self._heads("q", hidden_states)
        current_states = hidden_states if states is None else states
        key = self._heads("k", current_states)
        value = self._heads("v", current_states)
        hidden_states.tape.scope = self.name
        if position_bias is None:
            position_bias = self._bias(query, key)
        output, weights = self._attend(query, key, value, mask, position_bias)
        batch, length, _ = hidden_states.shape
        output = shapes.contiguous(shapes.view(output, (batch, length, query.shape[1] * query.shape[3])))
        output = self.linears["o"](output)
        return output, position_bias, weights

    def _heads(self, name: str, states: Tensor) -> Tensor:
        batch, length, _ = states.shape
        heads = (batch, length, self.shape.num_attention_heads, self.shape.head_dim)
        return shapes.transpose(shapes.view(self.linears[name](states), heads), 1, 2)

    def _bias(self, query: Tensor, key: Tensor) -> Tensor:
        """Biases that later blocks get too: where there is no table, zeros, which learn if checkpointed."""
        heads, queries, keys = query.shape[1], query.shape[2], key.shape[2]
        if self.table is not None:
            return compute_bias(self.table, queries, keys, bidirectional=not self.causal)
        bias = query.tape.empty((1, heads, queries, keys), query.dtype, "zeros")
        return require_grad(bias, "position_bias") if self.checkpointed else bias

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        rate = self.shape.dropout.attention
        if self.kind is Attention.EAGER:
            return eager.attend(query, key, value, mask, upcast=False, dropout=rate, bias=bias)
        mask = shapes.contiguous(_causal(bias) if self.causal else bias)
        return attention.sdpa(self.kind, query, key, value, cast(mask), causal=False, dropout=rate), None


class Block:
    """``T5Block``."""

    def __init__(
        self,
        store: Store,
        shape: T5Shape,
        kind: Attention,
        *,
        is_decoder: bool,
        is_first: bool,
        checkpointed: bool,
    ) -> None:
        self.shape = shape
        self.name = f"{'decoder' if is_decoder else 'encoder'}.block.*"
        self.activation = ACTIVATIONS[shape.hidden_act]
        hidden, inner = shape.hidden_size, shape.intermediate_size
        attention_name, crossing_name = f"{self.name}.SelfAttention", f"{self.name}.EncDecAttention"
        self.attention = Crossing(
            store,
            shape,
            kind,
            attention_name,
            causal=is_decoder,
            has_table=is_first,
            checkpointed=checkpointed,
        )
        self.norm = T5LayerNorm(store, f"{attention_name}.layer_norm", hidden)
        self.crossing: Crossing | None = None
        if is_decoder:
            self.crossing = Crossing(
                store,
                shape,
                kind,
                crossing_name,
                causal=False,
                has_table=False,
                checkpointed=checkpointed,
            )
            self.crossing_norm = T5LayerNorm(store, f"{crossing_name}.layer_norm", hidden)
        mlp = f"{self.name}.DenseReluDense"
        self.linears: dict[str, Projection] = {
            name: Linear(store, f"{mlp}.{name}", hidden, inner)
            for name in (("wi_0", "wi_1") if shape.gated else ("wi",))
        }
        self.linears["wo"] = Linear(store, f"{mlp}.wo", inner, hidden)
        self.mlp_norm = T5LayerNorm(store, f"{mlp}.layer_norm", hidden)

    def parts(self) -> Iterator[Part]:
        """What has linear layers."""
        yield self.attention
        if self.crossing is not None:
            yield self.crossing
        yield self

    def __call__(
        self,
        hidden_states: Tensor,
        mask: Tensor | None,
        position_bias: Tensor | None,
        encoder_hidden_states: Tensor | None,
        cross_bias: Tensor | None,
    ) -> Biases:
        hidden_states, self_attn_position_bias, _ = self._attended(
            self.attention, self.norm, hidden_states, mask, None, position_bias
        )
        cross_attn_position_bias: Tensor | None = None
        if self.crossing is not None:
            hidden_states, cross_attn_position_bias, _ = self._attended(
                self.crossing, self.crossing_norm, hidden_states, None, encoder_hidden_states, cross_bias
            )
        hidden_states = self._fed(hidden_states)
        return hidden_states, self_attn_position_bias, cross_attn_position_bias

    def _attended(
        self,
        attend: Crossing,
        norm: T5LayerNorm,
        hidden_states: Tensor,
        mask: Tensor | None,
        states: Tensor | None,
        position_bias: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """``T5LayerSelfAttention`` and ``T5LayerCrossAttention``."""
        normed_hidden_states = norm(hidden_states)
        attention_output, position_bias, weights = attend(normed_hidden_states, mask, states, position_bias)
        attention_output = ops.add(hidden_states, dropped(attention_output, self.shape.dropout.hidden))
        return attention_output, position_bias, weights

    def _fed(self, hidden_states: Tensor) -> Tensor:
        """``T5LayerFF``."""
        forwarded_states = self.mlp_norm(hidden_states)
        forwarded_states = self._dense(forwarded_states)
        return ops.add(hidden_states, dropped(forwarded_states, self.shape.dropout.hidden))

    def _dense(self, hidden_states: Tensor) -> Tensor:
        """``T5DenseActDense`` and ``T5DenseGatedActDense``."""
        return self._gated(hidden_states) if self.shape.gated else self._plain(hidden_states)

    def _plain(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.linears["wi"](hidden_states)
        hidden_states = self.activation(hidden_states)
        hidden_states = dropped(hidden_states, self.shape.dropout.hidden)
        hidden_states = self._in_dtype_of_weight(hidden_states)
        hidden_states = self.linears["wo"](hidden_states)
        return hidden_states  # noqa: RET504

    def _gated(self, hidden_states: Tensor) -> Tensor:
        hidden_gelu = self.activation(self.linears["wi_0"](hidden_states))
        hidden_linear = self.linears["wi_1"](hidden_states)
        hidden_states = ops.mul(hidden_gelu, hidden_linear)
        hidden_states = dropped(hidden_states, self.shape.dropout.hidden)
        hidden_states = self._in_dtype_of_weight(hidden_states)
        hidden_states = self.linears["wo"](hidden_states)
        return hidden_states  # noqa: RET504

    def _in_dtype_of_weight(self, hidden_states: Tensor) -> Tensor:
        """The last layer's input is cast to its weight's dtype, also where autocast casts it back."""
        last = self.linears["wo"]
        base = last.base if isinstance(last, LoraLinear) else last
        return ops.to(hidden_states, base.weight.dtype)
