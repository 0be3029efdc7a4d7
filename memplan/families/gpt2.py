"""GPT-2: pre-norm decoder with learned positions, packed projections stored (in, out), and dropout.

The forward pass follows transformers' ``modeling_gpt2.py`` (5.x) statement by statement, because the
lifetimes of its local variables decide the peak.
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.domain.architecture import Architecture, Dropout
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder, Projection
from memplan.simulator import cache, eager, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Store
from memplan.simulator.conv1d import Conv1D
from memplan.simulator.norms import LayerNorm
from memplan.simulator.splits import split_last
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ("c_attn", "c_proj", "c_fc")
"""Linear layers of a block, by the names an adapter may target; ``c_proj`` is two of them."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "gpt2": {
        "vocab_size": 50257,
        "n_positions": 1024,
        "n_embd": 768,
        "n_layer": 12,
        "n_head": 12,
        "activation_function": "gelu_new",
        "resid_pdrop": 0.1,
        "embd_pdrop": 0.1,
        "attn_pdrop": 0.1,
        "tie_word_embeddings": True,
    }
}
"""Class defaults of transformers 5.x: GPT2Config."""

_OTHER_NAMES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
"""Names GPT2Config takes as well (its ``attribute_map``)."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, the heads do not divide, or it asks for
            cross-attention or for scores in fp32 products, which are not simulated.
    """
    known = {_OTHER_NAMES.get(key, key): value for key, value in config.items()}
    written = {name: key for key, name in _OTHER_NAMES.items() if key in config}
    read = Config(known, DEFAULTS["gpt2"], lambda key: where(written.get(key, key)))
    for key in ("add_cross_attention", "reorder_and_upcast_attn"):
        if read.flag(key):
            raise read.wrong(key, "false: it is not simulated")
    hidden, heads = read.size("n_embd"), read.size("n_head")
    if hidden % heads:
        raise read.wrong("n_embd", f"a multiple of n_head ({heads})")
    return Architecture(
        model_type="gpt2",
        hidden_size=hidden,
        intermediate_size=read.size_or_none("n_inner") or 4 * hidden,
        num_hidden_layers=read.size("n_layer"),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        max_position_embeddings=read.size("n_positions"),
        hidden_act=read.choice("activation_function", ACTIVATIONS),
        dropout=Dropout(
            embedding=read.rate("embd_pdrop"),
            hidden=read.rate("resid_pdrop"),
            attention=read.rate("attn_pdrop"),
        ),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Gpt2:
    """Load the model (and its adapters) in the simulator."""
    return Gpt2(tape, shape, workload, kind)


class Block:
    """``GPT2Block``."""

    __slots__ = ("activation", "dropout", "kind", "linears", "ln_1", "ln_2", "shape")

    def __init__(self, store: Store, shape: Architecture, kind: Attention) -> None:
        hidden, inner = shape.hidden_size, shape.intermediate_size
        self.shape = shape
        self.kind = kind
        self.dropout = shape.dropout
        self.activation = ACTIVATIONS[shape.hidden_act]
        self.ln_1 = LayerNorm(store, "h.*.ln_1", hidden)
        sides = {"attn.c_attn": (hidden, 3 * hidden), "attn.c_proj": (hidden, hidden)}
        self.linears: dict[str, Projection] = {
            name: Conv1D(store, f"h.*.{name}", *side) for name, side in sides.items()
        }
        self.ln_2 = LayerNorm(store, "h.*.ln_2", hidden)
        sides = {"mlp.c_fc": (hidden, inner), "mlp.c_proj": (inner, hidden)}
        self.linears |= {name: Conv1D(store, f"h.*.{name}", *side) for name, side in sides.items()}

    def __call__(self, hidden_states: Tensor, mask: Tensor | None, /, *_positions: Tensor) -> Tensor:
        residual = hidden_states
        hidden_states = self.ln_1(hidden_states)
        attn_output, _ = self.attend(hidden_states, mask)
        hidden_states = ops.add(attn_output, residual)
        residual = hidden_states
        hidden_states = self.ln_2(hidden_states)
        feed_forward_hidden_states = self.mlp(hidden_states)
        return ops.add(residual, feed_forward_hidden_states)

    def attend(self, hidden_states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``GPT2Attention``: the output, and the attention probabilities where they exist."""
        batch, length, width = hidden_states.shape
        query, key, value = split_last(self.linears["attn.c_attn"](hidden_states), (width, width, width))
        hidden_states.tape.scope = "h.*.attn"
        key, value = self._heads(key), self._heads(value)
        query = self._heads(query)
        key, value = cache.update(key, value)
        output, weights = eager.kernel(
            self.kind,
            query,
            key,
            value,
            mask,
            upcast=False,
            dropout=self.dropout.attention,
            contiguous=False,
            recast=True,
        )
        output = shapes.contiguous(shapes.view(output, (batch, length, width)))
        output = self.linears["attn.c_proj"](output)
        if self.dropout.hidden:
            output = ops.dropout(output)
        return output, weights

    def _heads(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        heads = (batch, length, self.shape.num_attention_heads, self.shape.head_dim)
        return shapes.transpose(shapes.view(x, heads), 1, 2)

    def mlp(self, hidden_states: Tensor) -> Tensor:
        """``GPT2MLP``."""
        hidden_states = self.linears["mlp.c_fc"](hidden_states)
        hidden_states = self.activation(hidden_states)
        hidden_states = self.linears["mlp.c_proj"](hidden_states)
        return ops.dropout(hidden_states) if self.dropout.hidden else hidden_states


class Gpt2(Decoder):
    """``GPT2LMHeadModel``."""

    table_name = "wte.weight"

    def make_block(self, store: Store, _: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kind)

    def make_norm(self, store: Store) -> LayerNorm:
        """``ln_f``."""
        return LayerNorm(store, "ln_f", self.shape.hidden_size)

    def make_positions(self, store: Store) -> None:
        """``wpe``."""
        table = (self.shape.max_position_embeddings, self.shape.hidden_size)
        self.wpe = store.parameter("wpe.weight", table, "embeddings")

    def make_buffers(self, store: Store) -> None:
        """None: positions are learned."""

    def place(self, inputs_embeds: Tensor, /) -> list[Tensor]:
        """Positions, held to the end of the forward pass with their embeddings, and the sum.

        ``generate`` gives the positions of every sequence.
        """
        rows = 1 if inputs_embeds.tape.cache is None else inputs_embeds.shape[0]
        position_ids = inputs_embeds.tape.empty((rows, inputs_embeds.shape[1]), Dtype.INT64, "arange")
        position_embeds = ops.embedding(self.wpe, position_ids)
        return [position_ids, position_embeds, ops.add(inputs_embeds, position_embeds)]

    def enter(self, hidden_states: Tensor) -> Tensor:
        """Dropout on the sum."""
        return ops.dropout(hidden_states) if self.shape.dropout.embedding else hidden_states

    def positions(self, _: Tensor) -> tuple[Tensor, ...]:
        """Blocks get none."""
        return ()
