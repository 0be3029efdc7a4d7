"""GPT-BigCode (SantaCoder, StarCoder): GPT-2 with linear layers and one head of keys and values.

The forward pass follows transformers' ``modeling_gpt_bigcode.py`` (5.x), where it differs from GPT-2's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Workload
from memplan.families import gpt2
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder
from memplan.families.gpt2 import PROJECTIONS
from memplan.simulator import cache, eager, ops, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.norms import LayerNorm
from memplan.simulator.splits import split_last
from memplan.simulator.tensor import Parameter, Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

DEFAULTS: dict[str, Mapping[str, object]] = {
    "gpt_bigcode": {**gpt2.DEFAULTS["gpt2"], "activation_function": "gelu_pytorch_tanh", "multi_query": True}
}
"""Class defaults of transformers 5.x: GPTBigCodeConfig."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, the heads do not divide, or every query has keys
            of its own, which is not simulated.
    """
    read = Config(config, DEFAULTS["gpt_bigcode"], where)
    if not read.flag("multi_query"):
        raise read.wrong("multi_query", "true: other models of this type are not simulated")
    shape = gpt2.architecture({**DEFAULTS["gpt_bigcode"], **config}, where)
    return replace(shape, model_type="gpt_bigcode", num_key_value_heads=1)


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> GptBigCode:
    """Load the model (and its adapters) in the simulator."""
    return GptBigCode(tape, shape, workload, kind)


class Block(gpt2.Block):
    """``GPTBigCodeBlock``."""

    __slots__ = ()

    def __init__(self, store: Store, shape: Architecture, kind: Attention) -> None:
        hidden, inner, head = shape.hidden_size, shape.intermediate_size, shape.head_dim
        self.shape = shape
        self.kind = kind
        self.dropout = shape.dropout
        self.activation = ACTIVATIONS[shape.hidden_act]
        self.ln_1 = LayerNorm(store, "h.*.ln_1", hidden)
        sides = {"attn.c_attn": (hidden, hidden + 2 * head), "attn.c_proj": (hidden, hidden)}
        self.linears = {name: Linear(store, f"h.*.{name}", *side, bias=True) for name, side in sides.items()}
        self.ln_2 = LayerNorm(store, "h.*.ln_2", hidden)
        sides = {"mlp.c_fc": (hidden, inner), "mlp.c_proj": (inner, hidden)}
        self.linears |= {name: Linear(store, f"h.*.{name}", *side, bias=True) for name, side in sides.items()}

    def attend(self, hidden_states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``GPTBigCodeAttention``: the output, and the attention probabilities where they exist."""
        batch, length, width = hidden_states.shape
        head = self.shape.head_dim
        packed = shapes.unsqueeze(self.linears["attn.c_attn"](hidden_states), 1)
        query, key, value = split_last(packed, (width, head, head))
        del packed
        hidden_states.tape.scope = "h.*.attn"
        query = shapes.view(query, (batch, length, width // head, head))
        query = shapes.transpose(query, 1, 2)
        key, value = cache.update(key, value)
        dropout = self.dropout.attention
        output, weights = eager.kernel(self.kind, query, key, value, mask, dropout=dropout)
        output = shapes.contiguous(shapes.view(output, (batch, length, width)))
        output = self.linears["attn.c_proj"](output)
        if self.dropout.hidden:
            output = ops.dropout(output)
        return output, weights


class GptBigCode(gpt2.Gpt2):
    """``GPTBigCodeForCausalLM``."""

    # Which of the two names of tied weights its checkpoints hold is not known: taken for one read early.
    table_name = Decoder.table_name

    def make_block(self, store: Store, _: int) -> Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kind)

    def make_buffers(self, store: Store) -> None:
        """A triangle of all positions, which nothing uses any more."""
        sides = (self.shape.max_position_embeddings,) * 2
        self.bias = Parameter(store.tape, sides, Dtype.BOOL, "blocks", "bias")

    def place(self, inputs_embeds: Tensor, /) -> list[Tensor]:
        """The ids of the positions come before the masks."""
        rows = 1 if inputs_embeds.tape.cache is None else inputs_embeds.shape[0]
        return [inputs_embeds.tape.empty((rows, inputs_embeds.shape[1]), Dtype.INT64, "arange")]

    def settle(self, embeds: list[Tensor], held: list[Tensor], /) -> list[Tensor]:
        """Their embeddings, and the sum."""
        placed = ops.embedding(self.wpe, held[0])
        return [placed, ops.add(embeds[0], placed)]
