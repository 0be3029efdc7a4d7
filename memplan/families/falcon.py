"""Falcon: attention and MLP side by side; one key and value head, or a few that are spread out by copies.

The forward pass follows transformers' ``modeling_falcon.py`` (5.x) statement by statement, because the
lifetimes of its local variables decide the peak. Models with ALiBi (Falcon-RW) are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.domain.architecture import Architecture, Dropout
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder, Projection
from memplan.simulator import attention, cache, inplace, ops, picks, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.autograd import Gradients, Node, begin
from memplan.simulator.blocks import Linear, Store, rotate
from memplan.simulator.matmul import cast, linear, matmul
from memplan.simulator.norms import LayerNorm
from memplan.simulator.tensor import Parameter, Tape, Tensor

PROJECTIONS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
"""Linear layers of a block, in load order: what an adapter may target."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "falcon": {
        "vocab_size": 65024,
        "hidden_size": 4544,
        "num_hidden_layers": 32,
        "num_attention_heads": 71,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "alibi": False,
        "new_decoder_architecture": False,
        "multi_query": True,
        "parallel_attn": True,
        "bias": False,
        "max_position_embeddings": 2048,
        "activation": "gelu",
        "tie_word_embeddings": True,
    }
}
"""Class defaults of transformers 5.x: FalconConfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FalconShape(Architecture):
    """``key_value_groups``: key heads of the newer design (40B, 180B), which attention gets spread out.

    ``parallel``: the MLP does not wait for attention; ``norms``: how many norms a parallel block begins with.
    """

    key_value_groups: int | None = None
    parallel: bool = True
    norms: int = 1


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, the heads do not divide, or the model has ALiBi.
    """
    read = Config(config, DEFAULTS["falcon"], where)
    hidden = read.size_or_none("n_embed") or read.size("hidden_size")
    heads = read.size("num_attention_heads")
    if hidden % heads:
        raise read.wrong("hidden_size", f"a multiple of num_attention_heads ({heads})")
    if read.flag("alibi"):
        raise read.wrong("alibi", "false: biases instead of rotary positions are not simulated")
    newer, parallel = read.flag("new_decoder_architecture"), read.flag("parallel_attn")
    if newer and not parallel:
        raise read.wrong("parallel_attn", "true with new_decoder_architecture")
    single = read.flag("multi_query") and not newer
    return FalconShape(
        model_type="falcon",
        hidden_size=hidden,
        intermediate_size=read.size_or_none("ffn_hidden_size") or 4 * hidden,
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=1 if single else heads,
        head_dim=hidden // heads,
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        max_position_embeddings=read.size("max_position_embeddings"),
        attention_bias=read.flag("bias"),
        hidden_act=read.choice("activation", ACTIVATIONS),
        dropout=Dropout(hidden=read.rate("hidden_dropout"), attention=read.rate("attention_dropout")),
        masked=True,
        broadcast=single,
        key_value_groups=_groups(read, heads) if newer else None,
        parallel=parallel,
        norms=_norms(read, newer),
    )


def _groups(read: Config, heads: int) -> int:
    found = read.size_or_none("num_kv_heads") or heads
    if heads % found:
        raise read.wrong("num_kv_heads", f"a divisor of num_attention_heads ({heads})")
    return found


def _norms(read: Config, newer: bool) -> int:
    found = read.size_or_none("num_ln_in_parallel_attn") or (2 if newer else 1)
    if found > 1 + newer:
        raise read.wrong("num_ln_in_parallel_attn", "1, or 2 with new_decoder_architecture")
    return found


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Falcon:
    """Load the model (and its adapters) in the simulator."""
    return Falcon(tape, shape, workload, kind)


class FalconLinear(Linear):
    """``FalconLinear``: ``x @ weight.T``, and the bias is added in an op of its own.

    The transposed weight is no leaf: autocast does not keep its copy for the next time.
    """

    __slots__ = ()

    def __call__(self, x: Tensor) -> Tensor:
        if not isinstance(self.weight, Parameter):
            return super().__call__(x)
        x.tape.scope = self.name
        weight = self.weight if x.tape.autocast is None else shapes.view(self.weight, self.weight.shape)
        hidden_states = linear(x, weight)
        return hidden_states if self.bias is None else ops.add(hidden_states, self.bias)


def _divided(_: Node, gradient: Tensor) -> Gradients:
    return (ops.like(gradient, "div"),)


def _divide(x: Tensor) -> Tensor:
    """``x /= number``: the same memory under a new node."""
    node = begin(_divided, x)
    return ops.finish(node, x.detach())


class Block:
    """``FalconDecoderLayer``.

    The model's loop keeps the tuple a block returns until the next one returns its own, and with it the
    attention probabilities: ``kept`` is that variable, shared by all blocks.
    """

    __slots__ = ("activation", "kept", "kind", "linears", "norms", "shape")

    def __init__(self, store: Store, shape: FalconShape, kind: Attention, kept: list[Tensor | None]) -> None:
        self.shape = shape
        self.kind = kind
        self.kept = kept
        self.activation = ACTIVATIONS[shape.hidden_act]
        hidden, inner = shape.hidden_size, shape.intermediate_size
        groups = shape.key_value_groups or shape.num_key_value_heads
        packed = (shape.num_attention_heads + 2 * groups) * shape.head_dim
        sides = ((hidden, packed), (hidden, hidden), (hidden, inner), (inner, hidden))
        self.linears: dict[str, Projection] = {
            name: FalconLinear(store, f"h.*.{parent}.{name}", *side, bias=shape.attention_bias)
            for name, parent, side in zip(
                PROJECTIONS, ("self_attention", "self_attention", "mlp", "mlp"), sides, strict=True
            )
        }
        names = ("ln_attn", "ln_mlp") if shape.norms == 2 else ("input_layernorm",)
        if not shape.parallel:
            names = ("post_attention_layernorm", "input_layernorm")
        self.norms = {name: LayerNorm(store, f"h.*.{name}", hidden) for name in names}

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, /, *positions: Tensor) -> Tensor:
        outputs = self._run(hidden_states, mask, *positions)
        if not hidden_states.tape.in_backward:
            # Recomputation returns to autograd, not to the loop.
            self.kept[:] = outputs
        return outputs[0]

    def _run(
        self, hidden_states: Tensor, mask: Tensor | None, *positions: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        shape, norms = self.shape, self.norms
        residual = hidden_states
        if shape.norms == 2:
            attention_layernorm_out = norms["ln_attn"](hidden_states)
            mlp_layernorm_out = norms["ln_mlp"](hidden_states)
        else:
            attention_layernorm_out = norms["input_layernorm"](hidden_states)
        attention_output, weights = self.attend(attention_layernorm_out, mask, *positions)
        if not shape.parallel:
            residual = ops.add(residual, _dropped(attention_output, shape.dropout.attention))
            mlp_layernorm_out = norms["post_attention_layernorm"](residual)
        elif shape.norms == 1:
            mlp_layernorm_out = attention_layernorm_out
        mlp_output = self.mlp(mlp_layernorm_out)
        if shape.parallel:
            mlp_output = inplace.add(mlp_output, attention_output)
        return ops.add(residual, _dropped(mlp_output, shape.dropout.hidden)), weights

    def attend(
        self, hidden_states: Tensor, mask: Tensor | None, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """``FalconAttention``: the output, and the attention probabilities where they exist."""
        batch, length, hidden = hidden_states.shape
        packed = self.linears["query_key_value"](hidden_states)
        hidden_states.tape.scope = "h.*.self_attention"
        query, key, value = self._split(packed)
        query, key, value = (shapes.transpose(part, 1, 2) for part in (query, key, value))
        query, key = rotate(query, key, cosine, sine)
        key, value = cache.update(key, value)
        scores: Tensor | None = None
        if self.kind is Attention.EAGER:
            heads = query.shape[1]
            # Autocast casts what the products are given, before they broadcast it.
            turned = cast(shapes.transpose(key, 2, 3))
            scores = _divide(matmul(query, attention.spread(turned, heads)))
            del turned
            assert mask is not None
            scores = attention.softmax(ops.add(scores, mask))
            output = shapes.transpose(matmul(scores, attention.spread(cast(value), heads)), 1, 2)
        else:
            single = self.shape.broadcast
            kind = Attention.MATH if single and self.kind is Attention.SDPA else self.kind
            output = attention.sdpa(kind, query, key, value, mask, broadcast=single)
        output = shapes.view(output, (batch, length, hidden))
        output = self.linears["dense"](output)
        return output, scores

    def _split(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``_split_heads``: (B, S, heads, D) each; keys and values are copies, the newer ones spread out."""
        shape = self.shape
        lead, heads, width = packed.shape[:2], shape.num_attention_heads, shape.head_dim
        groups = shape.key_value_groups
        if groups is not None:
            grouped = shapes.view(packed, (*lead, groups, heads // groups + 2, width))
            query = shapes.narrow(grouped, 3, heads // groups)
            key, value = picks.pick(grouped, 3), picks.pick(grouped, 3)
            key = shapes.expand(key, query.shape)
            value = shapes.expand(value, query.shape)
            flat = (*lead, heads, width)
            query, key, value = [shapes.view(part, flat) for part in (query, key, value)]
            return query, key, value
        if not shape.broadcast:
            packed = shapes.view(packed, (*lead, heads, 3, width))
            return picks.select(packed, 3), picks.select(packed, 3), picks.select(packed, 3)
        packed = shapes.view(packed, (*lead, heads + 2, width))
        return shapes.narrow(packed, 2, heads), picks.pick(packed, 2), picks.pick(packed, 2)

    def mlp(self, x: Tensor) -> Tensor:
        """``FalconMLP``."""
        x = self.activation(self.linears["dense_h_to_4h"](x))
        x = self.linears["dense_4h_to_h"](x)
        return x  # noqa: RET504


def _dropped(x: Tensor, rate: float) -> Tensor:
    return ops.dropout(x) if rate else x


class Falcon(Decoder):
    """``FalconForCausalLM``."""

    shape: FalconShape

    def make_block(self, store: Store, index: int) -> Block:
        """All blocks are alike."""
        if not index:
            self.kept: list[Tensor | None] = []
        return Block(store, self.shape, self.kind, self.kept)

    def make_norm(self, store: Store) -> LayerNorm:
        """``ln_f``."""
        return LayerNorm(store, "ln_f", self.shape.hidden_size)

    def hidden(self, tokens: Tensor) -> Tensor:
        """The last hidden states; what the loop kept goes when it is done."""
        hidden_states = super().hidden(tokens)
        self.kept.clear()
        return hidden_states
