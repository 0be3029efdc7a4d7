"""OPT: learned positions with an offset, biases everywhere, norms before or (350M) after each part.

The forward pass follows transformers' ``modeling_opt.py`` (5.x) statement by statement, because the
lifetimes of its local variables decide the peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.domain.architecture import Architecture, Dropout
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder, Projection
from memplan.simulator import cache, eager, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.norms import LayerNorm
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ("k_proj", "v_proj", "q_proj", "out_proj", "fc1", "fc2")
"""Linear layers of a block, in load order: what an adapter may target."""

OFFSET = 2
"""Rows of the table of positions that no position uses (``OPTLearnedPositionalEmbedding``)."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "opt": {
        "vocab_size": 50272,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "ffn_dim": 3072,
        "max_position_embeddings": 2048,
        "do_layer_norm_before": True,
        "dropout": 0.1,
        "attention_dropout": 0.0,
        "num_attention_heads": 12,
        "activation_function": "relu",
        "layerdrop": 0.0,
        "enable_bias": True,
        "layer_norm_elementwise_affine": True,
        "tie_word_embeddings": True,
    }
}
"""Class defaults of transformers 5.x: OPTConfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptShape(Architecture):
    """``before``: norms come before each part, and one after the last block unless ``ends_bare``.

    ``embedding_size`` is the width of the embeddings, ``affine`` says whether norms have parameters.
    """

    before: bool = True
    ends_bare: bool = False
    embedding_size: int
    affine: bool = True


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, the heads do not divide, or whole layers are
            dropped at random, which is not simulated.
    """
    read = Config(config, DEFAULTS["opt"], where)
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    if hidden % heads:
        raise read.wrong("hidden_size", f"a multiple of num_attention_heads ({heads})")
    if read.rate("layerdrop"):
        raise read.wrong("layerdrop", "0: dropping layers is not simulated")
    before = read.flag("do_layer_norm_before")
    bias = read.flag("enable_bias")
    return OptShape(
        model_type="opt",
        hidden_size=hidden,
        intermediate_size=read.size("ffn_dim"),
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        max_position_embeddings=read.size("max_position_embeddings"),
        attention_bias=bias,
        output_bias=bias,
        mlp_bias=bias,
        hidden_act=read.choice("activation_function", ACTIVATIONS),
        dropout=Dropout(hidden=read.rate("dropout"), attention=read.rate("attention_dropout")),
        before=before,
        ends_bare=not before or read.flag("_remove_final_layer_norm"),
        embedding_size=read.size_or_none("word_embed_proj_dim") or hidden,
        affine=read.flag("layer_norm_elementwise_affine"),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Opt:
    """Load the model (and its adapters) in the simulator."""
    return Opt(tape, shape, workload, kind)


class Block:
    """``OPTDecoderLayer``."""

    __slots__ = ("activation", "final_layer_norm", "kind", "linears", "self_attn_layer_norm", "shape")

    def __init__(self, store: Store, shape: OptShape, kind: Attention) -> None:
        hidden, inner, bias = shape.hidden_size, shape.intermediate_size, shape.attention_bias
        self.shape = shape
        self.kind = kind
        self.activation = ACTIVATIONS[shape.hidden_act]
        self.linears: dict[str, Projection] = {
            name: Linear(store, f"layers.*.self_attn.{name}", hidden, hidden, bias=bias)
            for name in PROJECTIONS[:4]
        }
        self.self_attn_layer_norm = self._norm(store, "self_attn_layer_norm")
        self.linears["fc1"] = Linear(store, "layers.*.fc1", hidden, inner, bias=bias)
        self.linears["fc2"] = Linear(store, "layers.*.fc2", inner, hidden, bias=bias)
        self.final_layer_norm = self._norm(store, "final_layer_norm")

    def _norm(self, store: Store, name: str) -> LayerNorm:
        return LayerNorm(store, f"layers.*.{name}", self.shape.hidden_size, affine=self.shape.affine)

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, /, *_positions: Tensor) -> Tensor:
        before = self.shape.before
        residual = hidden_states
        if before:
            hidden_states = self.self_attn_layer_norm(hidden_states)
        hidden_states, _ = self.attend(hidden_states, mask)
        hidden_states = self._dropped(hidden_states)
        hidden_states = ops.add(residual, hidden_states)
        if not before:
            hidden_states = self.self_attn_layer_norm(hidden_states)
        sides = hidden_states.shape
        hidden_states = shapes.view(hidden_states, (sides[0] * sides[1], sides[2]))
        residual = hidden_states
        if before:
            hidden_states = self.final_layer_norm(hidden_states)
        hidden_states = self.linears["fc1"](hidden_states)
        hidden_states = self.activation(hidden_states)
        hidden_states = self.linears["fc2"](hidden_states)
        hidden_states = self._dropped(hidden_states)
        hidden_states = shapes.view(ops.add(residual, hidden_states), sides)
        return hidden_states if before else self.final_layer_norm(hidden_states)

    def _dropped(self, x: Tensor) -> Tensor:
        return ops.dropout(x) if self.shape.dropout.hidden else x

    def attend(self, hidden_states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``OPTAttention``: queries are scaled before, and by one again with the scores."""
        batch, length, hidden = hidden_states.shape
        query = ops.mul_scalar(self.linears["q_proj"](hidden_states))
        query = self._heads(query)
        key = self.linears["k_proj"](hidden_states)
        value = self.linears["v_proj"](hidden_states)
        hidden_states.tape.scope = "layers.*.self_attn"
        key, value = self._heads(key), self._heads(value)
        key, value = cache.update(key, value)
        dropout = self.shape.dropout.attention
        output, weights = eager.kernel(self.kind, query, key, value, mask, dropout=dropout)
        output = shapes.contiguous(shapes.view(output, (batch, length, hidden)))
        output = self.linears["out_proj"](output)
        return output, weights

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        heads = (batch, length, self.shape.num_attention_heads, self.shape.head_dim)
        return shapes.transpose(shapes.view(x, heads), 1, 2)


class _Ending:
    """What follows the last block: a norm, and the projection to the width of the embeddings."""

    __slots__ = ("norm", "project")

    def __init__(self, norm: LayerNorm | None, project: Linear | None) -> None:
        self.norm = norm
        self.project = project

    def __call__(self, hidden_states: Tensor) -> Tensor:
        if self.norm is not None:
            hidden_states = self.norm(hidden_states)
        if self.project is not None:
            hidden_states = self.project(hidden_states)
        return hidden_states


class Opt(Decoder):
    """``OPTForCausalLM``."""

    shape: OptShape

    def embedding_width(self) -> int:
        """``word_embed_proj_dim``."""
        return self.shape.embedding_size

    def make_positions(self, store: Store) -> None:
        """The table of positions, the projections from and to the embeddings' width, the final norm."""
        shape = self.shape
        hidden, narrow = shape.hidden_size, shape.embedding_size
        rows = shape.max_position_embeddings + OFFSET
        self.embed_positions = store.parameter("embed_positions.weight", (rows, hidden), "embeddings")
        self.project_out = self.project_in = None
        if narrow != hidden:
            self.project_out = Linear(store, "project_out", hidden, narrow)
            self.project_in = Linear(store, "project_in", narrow, hidden)
        self.final_layer_norm = (
            None if shape.ends_bare else LayerNorm(store, "final_layer_norm", hidden, affine=shape.affine)
        )

    def make_block(self, store: Store, _: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kind)

    def make_norm(self, _: Store) -> _Ending:
        """Loaded before the blocks already."""
        return _Ending(self.final_layer_norm, self.project_out)

    def make_buffers(self, store: Store) -> None:
        """None: positions are learned."""

    def place(self, inputs_embeds: Tensor, /) -> list[Tensor]:
        """A mask of ones in fp32, and the positions counted on it, unless ``generate`` gives them."""
        tape = inputs_embeds.tape
        sides = inputs_embeds.shape[:2]
        if tape.cache is not None:
            position_ids = tape.empty(sides, Dtype.INT64, "position_ids")
            if tape.cache.static:
                return [position_ids, position_ids]
            seen = tape.cache.layers[0].seen
            return [tape.empty((sides[0], seen + sides[1]), Dtype.FP32, "ones"), position_ids]
        ones = tape.empty(sides, Dtype.FP32, "ones")
        position_ids = tape.empty(sides, Dtype.FP32, "cumsum")
        position_ids = ops.like(ops.pair(position_ids, ones, "mul"), "sub")
        return [ones, ops.like(position_ids, "to", Dtype.INT64)]

    def settle(self, embeds: list[Tensor], held: list[Tensor], /) -> list[Tensor]:
        """The embeddings of the positions, ``project_in``, and the sum."""
        held[0].tape.scope = "embed_positions"
        placed = ops.embedding(self.embed_positions, ops.like(held[1], "add"))
        if self.project_in is not None:
            embeds[0] = self.project_in(embeds[0])
        return [placed, ops.add(embeds[0], placed)]

    def positions(self, _: Tensor) -> tuple[Tensor, ...]:
        """Blocks get none."""
        return ()
