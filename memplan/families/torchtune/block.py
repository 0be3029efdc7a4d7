"""torchtune's ``TransformerSelfAttentionLayer``: norms in fp32, turning neighbours, keys for all heads.

Follows torchtune/modules (attention.py, position_embeddings.py, feed_forward.py, rms_norm.py) and
torchtune/modules/peft/lora.py statement by statement.

Shapes: hidden states (B, S, h), query, key and value (B, S, heads, D) until they are transposed.
"""

from __future__ import annotations

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Adapter, Attention
from memplan.simulator import attention, ops, shapes
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.interleaved import every_second
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Parameter, Tensor

TARGETS = {
    "q_proj": ("q_proj",),
    "k_proj": ("k_proj",),
    "v_proj": ("v_proj",),
    "output_proj": ("output_proj", "o_proj"),
    "w1": ("w1", "mlp", "gate_proj"),
    "w2": ("w2", "mlp", "down_proj"),
    "w3": ("w3", "mlp", "up_proj"),
    "output": ("output", "lm_head"),
}
"""torchtune's linear layers, and the names that adapt each."""


class RMSNorm:
    """``RMSNorm``: ``F.rms_norm`` on an fp32 copy, which is written out since the weight is of another dtype.

    Source: ``rms_norm_composite`` in aten/src/ATen/native/layer_norm.cpp of PyTorch.
    """

    __slots__ = ("name", "weight")

    def __init__(self, store: Store, name: str, width: int) -> None:
        self.name = name
        self.weight = store.parameter(f"{name}.scale", (width,))

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        wide = ops.to(x, Dtype.FP32)
        squared = ops.square(wide)
        # The constant is added in place.
        mean = ops.mean_last(squared)
        inverse = ops.rsqrt(mean)
        del mean, squared
        normed = ops.mul(wide, inverse)
        scaled = ops.mul(normed, self.weight)
        del inverse, normed, wide
        return ops.to(scaled, x.dtype)


class LoraLinear:
    """``nn.Linear``, or ``LoRALinear``."""

    __slots__ = ("base", "down", "dropout", "up")

    def __init__(
        self, store: Store, adapters: Store, adapter: Adapter | None, name: str, sides: tuple[int, int]
    ) -> None:
        own = name.rpartition(".")[2]
        component = "decoder_matrix" if own == "output" else "blocks"
        self.base = Linear(store, name, *sides, component=component)
        self.dropout = adapter.dropout if adapter else 0.0
        self.down: Parameter | None = None
        self.up: Parameter | None = None
        if adapter is not None and not set(TARGETS[own]).isdisjoint(adapter.targets):
            inputs, outputs = sides
            self.down = adapters.parameter(f"{name}.lora_a.weight", (adapter.rank, inputs), "adapter")
            self.up = adapters.parameter(f"{name}.lora_b.weight", (outputs, adapter.rank), "adapter")

    def __call__(self, x: Tensor) -> Tensor:
        out = self.base(x)
        if self.down is None or self.up is None:
            return out
        lora_out = linear(ops.dropout(x) if self.dropout else x, self.down)
        lora_out = ops.mul_scalar(linear(lora_out, self.up))
        return ops.add(out, lora_out)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """``RotaryPositionalEmbeddings``: neighbours of (B, S, heads, D) turn in fp32, by four products."""
    wide = ops.to(x, Dtype.FP32)
    x_out = _stacked(
        ops.sub(ops.mul(every_second(wide), cosine), ops.mul(every_second(wide), sine)),
        ops.add(ops.mul(every_second(wide), cosine), ops.mul(every_second(wide), sine)),
    )
    x_out = shapes.view(x_out, x.shape)
    return ops.to(x_out, x.dtype)


def _stacked(first: Tensor, second: Tensor) -> Tensor:
    """``torch.stack([first, second], -1)``: backward hands out every second number."""
    side = first.shape

    def run(_: Node, gradient: Tensor) -> Gradients:
        strides = gradient.strides[:-1]
        return gradient.alias(side, strides), gradient.alias(side, strides)

    node = begin(run, first, second)
    return ops.finish(node, first.tape.empty((*side, 2), first.dtype, "stack"))


class Block:
    """``TransformerSelfAttentionLayer``."""

    __slots__ = ("kind", "layers", "mlp_norm", "sa_norm", "shape", "tables")

    def __init__(
        self,
        store: Store,
        adapters: Store,
        shape: Architecture,
        adapter: Adapter | None,
        kind: Attention,
        tables: tuple[Tensor, Tensor],
    ) -> None:
        self.shape = shape
        self.kind = kind
        self.tables = tables
        hidden, inner = shape.hidden_size, shape.intermediate_size
        queries = shape.num_attention_heads * shape.head_dim
        keys = shape.num_key_value_heads * shape.head_dim
        sides = {
            "attn.q_proj": (hidden, queries),
            "attn.k_proj": (hidden, keys),
            "attn.v_proj": (hidden, keys),
            "attn.output_proj": (queries, hidden),
            "mlp.w1": (hidden, inner),
            "mlp.w2": (inner, hidden),
            "mlp.w3": (hidden, inner),
        }
        self.layers = {
            name.rpartition(".")[2]: LoraLinear(store, adapters, adapter, f"layers.*.{name}", side)
            for name, side in sides.items()
        }
        self.sa_norm = RMSNorm(store, "layers.*.sa_norm", hidden)
        self.mlp_norm = RMSNorm(store, "layers.*.mlp_norm", hidden)

    def __call__(self, x: Tensor) -> Tensor:
        h = self.sa_norm(x)
        attn_out = self.attend(h)
        h = ops.add(attn_out, x)
        mlp_out = self.mlp(self.mlp_norm(h))
        return ops.add(h, mlp_out)

    def attend(self, x: Tensor) -> Tensor:
        """``MultiHeadAttention``."""
        shape, layers = self.shape, self.layers
        batch, length, _ = x.shape
        heads, groups, width = shape.num_attention_heads, shape.num_key_value_heads, shape.head_dim
        q = layers["q_proj"](x)
        q = shapes.view(q, (batch, length, heads, width))
        x.tape.scope = "layers.*.attn"
        q = rotate(q, *self.tables)
        q = shapes.transpose(q, 1, 2)
        k = layers["k_proj"](x)
        v = layers["v_proj"](x)
        k = shapes.view(k, (batch, length, groups, width))
        v = shapes.view(v, (batch, length, groups, width))
        x.tape.scope = "layers.*.attn"
        k = rotate(k, *self.tables)
        k = shapes.transpose(k, 1, 2)
        v = shapes.transpose(v, 1, 2)
        k = attention.repeat_kv(k, heads // groups)
        v = attention.repeat_kv(v, heads // groups)
        output = attention.sdpa(self.kind, q, k, v, None)
        output = shapes.view(output, (batch, length, heads * width))
        return layers["output_proj"](output)

    def mlp(self, x: Tensor) -> Tensor:
        """``FeedForward``; the module's call holds its input."""
        layers = self.layers
        h = ops.silu(layers["w1"](x))
        h = ops.mul(h, layers["w3"](x))
        h = layers["w2"](h)
        return h  # noqa: RET504
