"""One block of BERT: attention and MLP, each followed by a norm of its sum with what it was given."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.architecture import Architecture
from memplan.domain.workload import Attention
from memplan.families.encoder import Projection
from memplan.simulator import eager, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.norms import LayerNorm
from memplan.simulator.tensor import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape(Architecture):
    """``head`` is the class that is trained, ``classes`` what it tells apart (if not words)."""

    head: str
    classes: int
    token_types: int
    head_dropout: float


def dropped(x: Tensor, rate: float) -> Tensor:
    """``nn.Dropout``."""
    return ops.dropout(x) if rate else x


class Block:
    """``BertLayer``."""

    __slots__ = ("activation", "kind", "linears", "norms", "shape")

    def __init__(self, store: Store, shape: BertShape, kind: Attention) -> None:
        self.shape = shape
        self.kind = kind
        self.activation = ACTIVATIONS[shape.hidden_act]
        hidden, inner = shape.hidden_size, shape.intermediate_size
        self.linears: dict[str, Projection] = {}
        self.norms: dict[str, LayerNorm] = {}
        for name in ("query", "key", "value"):
            self._linear(store, f"attention.self.{name}", hidden, hidden)
        self._output(store, "attention.output", hidden, hidden)
        self._linear(store, "intermediate.dense", hidden, inner)
        self._output(store, "output", inner, hidden)

    def _linear(self, store: Store, name: str, inputs: int, outputs: int) -> None:
        self.linears[name] = Linear(store, f"encoder.layer.*.{name}", inputs, outputs, bias=True)

    def _output(self, store: Store, name: str, inputs: int, outputs: int) -> None:
        self._linear(store, f"{name}.dense", inputs, outputs)
        self.norms[name] = LayerNorm(store, f"encoder.layer.*.{name}.LayerNorm", outputs)

    def __call__(self, hidden_states: Tensor, mask: Tensor | None) -> Tensor:
        self_attention_output, _ = self.attention(hidden_states, mask)
        # The second name is the last to go when the block returns, after the probabilities.
        attention_output = self_attention_output
        return self.feed_forward(attention_output)

    def attention(self, hidden_states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``BertAttention``: the output, and the attention probabilities where they exist."""
        attention_output, weights = self.attend(hidden_states, mask)
        attention_output = self.output("attention.output", attention_output, hidden_states)
        return attention_output, weights

    def attend(self, hidden_states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``BertSelfAttention``."""
        query = self._heads("query", hidden_states)
        key = self._heads("key", hidden_states)
        value = self._heads("value", hidden_states)
        hidden_states.tape.scope = "encoder.layer.*.attention.self"
        dropout = self.shape.dropout.attention
        output, weights = eager.kernel(
            self.kind, query, key, value, mask, causal=False, upcast=False, dropout=dropout
        )
        return shapes.contiguous(shapes.view(output, hidden_states.shape)), weights

    def _heads(self, name: str, hidden_states: Tensor) -> Tensor:
        batch, length, _ = hidden_states.shape
        projected = self.linears[f"attention.self.{name}"](hidden_states)
        heads = (batch, length, self.shape.num_attention_heads, self.shape.head_dim)
        return shapes.transpose(shapes.view(projected, heads), 1, 2)

    def output(self, name: str, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """``BertSelfOutput`` and ``BertOutput``."""
        hidden_states = self.linears[f"{name}.dense"](hidden_states)
        hidden_states = dropped(hidden_states, self.shape.dropout.hidden)
        hidden_states = self.norms[name](ops.add(hidden_states, input_tensor))
        return hidden_states  # noqa: RET504

    def feed_forward(self, attention_output: Tensor) -> Tensor:
        """``feed_forward_chunk``."""
        intermediate_output = self.intermediate(attention_output)
        layer_output = self.output("output", intermediate_output, attention_output)
        return layer_output  # noqa: RET504

    def intermediate(self, hidden_states: Tensor) -> Tensor:
        """``BertIntermediate``."""
        hidden_states = self.linears["intermediate.dense"](hidden_states)
        hidden_states = self.activation(hidden_states)
        return hidden_states  # noqa: RET504
