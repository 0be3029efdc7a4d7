"""What is trained: a language model's shape, or tensors somebody declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod

from memplan.domain.bytes import NOTHING, Bytes
from memplan.domain.dtype import Dtype
from memplan.domain.setting import CPU, Scalar

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers of a Llama-like block."""

EXPERT_PARAMETERS = ("gate_up_proj", "down_proj")
"""Parameters that hold the matrices of all experts of a layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """``copies`` parameters of one shape: every layer's ``q_proj.weight``, or the one LM head.

    ``component`` is the name the group's bytes are reported under (``embeddings``,
    ``decoder_matrix`` or ``blocks``).
    """

    name: str
    component: str
    shape: tuple[int, ...]
    copies: int = 1

    @property
    def parameters(self) -> int:
        """Number of scalar parameters in all copies."""
        return prod(self.shape) * self.copies


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A mixture of experts: every token passes ``chosen`` of ``experts`` gated MLPs of a ``width``.

    ``shared`` is the width of an MLP that all tokens pass besides, ``dense`` the blocks that have an ordinary
    MLP instead. Experts may be chosen from the best ``groups_chosen`` of ``groups``. ``normalized`` says
    whether the chosen experts' weights are made to sum to one, ``balanced`` whether the loss has a term that
    evens out how often experts are chosen, ``packed`` whether the published experts are 4-bit (MXFP4).
    """

    experts: int
    chosen: int
    width: int
    shared: int = 0
    dense: tuple[int, ...] = ()
    groups: int = 1
    groups_chosen: int = 1
    normalized: bool = True
    balanced: bool = False
    packed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Multi-head latent attention: keys and values are made from a vector of ``rank`` numbers per token.

    A head of query or key is ``plain`` wide without and ``rotary`` wide with positions, one of value is
    ``value`` wide. ``query_rank`` is the width of the queries' own bottleneck, if they have one;
    ``interleaved`` says that rotated numbers are neighbours rather than half a head apart.
    """

    rank: int
    plain: int
    rotary: int
    value: int
    query_rank: int | None = None
    interleaved: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Rates while training: after the embeddings, on what blocks add to the residual stream, on attention."""

    embedding: float = 0.0
    hidden: float = 0.0
    attention: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of a decoder-only language model, in Hugging Face ``config.json`` terms.

    ``layer_types`` says for each block whether it attends to everything or within ``sliding_window``; empty
    when all blocks are alike. The softcaps say whether attention scores and logits pass through a ``tanh``.
    ``sinks`` says that every head has a score of its own to attend to. ``rotary_dim`` is the part of a head
    that rotates, when it is not all of it; blocks that are ``unrotated`` have no positions.
    ``causal`` is false where every position attends to every other. ``masked`` says that SDPA gets a mask
    even where none is needed, ``broadcast`` that it gets fewer key than query heads unsaid. ``linears`` names
    the linear layers of a block: what adapters may target. ``expert_layers`` names what else they may:
    layers that experts once had, and whose place parameters took. ``config`` is what all this was
    read from. ``groups`` lists every parameter once (a tied LM head
    is not listed again), so that their sum is the published parameter count. ``unmodelled`` says what is
    left out of the model's own, and how many bytes that may add for each example of a batch.
    """

    model_type: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    max_position_embeddings: int
    attention_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    sliding_window: int | None = None
    layer_types: tuple[str, ...] = ()
    hidden_act: str = "silu"
    attention_softcap: bool = False
    logit_softcap: bool = False
    rotary_dim: int | None = None
    dropout: Dropout = field(default_factory=Dropout)
    causal: bool = True
    masked: bool = False
    broadcast: bool = False
    sinks: bool = False
    unrotated: tuple[int, ...] = ()
    mixture: Mixture | None = None
    latent: Latent | None = None
    linears: tuple[str, ...] = LINEARS
    expert_layers: tuple[str, ...] = ()
    groups: tuple[ParameterGroup, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)
    unmodelled: tuple[tuple[str, int], ...] = ()

    @property
    def parameters(self) -> int:
        """Number of scalar parameters, tied matrices counted once."""
        return sum(group.parameters for group in self.groups)

    @property
    def depth(self) -> int:
        """Number of blocks, which checkpointing counts through."""
        return self.num_hidden_layers

    def layer_type(self, index: int) -> str:
        """``full_attention`` or ``sliding_attention``: what the block at a depth attends to."""
        if self.layer_types:
            return self.layer_types[index]
        return "full_attention" if self.sliding_window is None else "sliding_attention"


class Role(StrEnum):
    """What a declared tensor is for."""

    WEIGHT = "weight"
    GRADIENT = "gradient"
    OPTIMIZER = "optimizer"
    ACTIVATION = "activation"
    BUFFER = "buffer"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredTensor:
    """A tensor whose size somebody declared instead of a model memplan knows.

    Its bytes are ``fixed`` + Σ ``per[value]`` · value, plus Π ``shape`` · itemsize when it has
    a shape. Entries of ``shape`` are integers or names of declared values; nothing is evaluated.
    """

    name: str
    role: Role = Role.WEIGHT
    shape: tuple[int | str, ...] = ()
    dtype: Dtype = Dtype.FP32
    fixed: Bytes = NOTHING
    per: tuple[tuple[str, Bytes], ...] = ()

    def size(self, values: Mapping[str, int]) -> Bytes:
        """Bytes of this tensor for the given values of its names."""
        scaled = sum(amount * values[name] for name, amount in self.per)
        if not self.shape:
            return Bytes(self.fixed + scaled)
        sides = [side if isinstance(side, int) else values[side] for side in self.shape]
        return Bytes(self.fixed + scaled + prod(sides) * self.dtype.itemsize)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredModel:
    """A model given as tensors, and the values that size them.

    With a ``mechanism`` what happens beside them is known too: the one of ``memplan.programs`` that has that
    name, with the values as its settings.
    """

    tensors: tuple[DeclaredTensor, ...] = ()
    values: tuple[tuple[str, Scalar], ...] = ()
    mechanism: str | None = None

    def value(self, name: str) -> Scalar:
        """The current value of a name; ``KeyError`` when it is not declared."""
        return dict(self.values)[name]

    @property
    def on_host(self) -> bool:
        """Whether its mechanism runs in host memory, without a GPU."""
        return self.mechanism is not None and dict(self.values).get("device") == CPU

    def sizes(self) -> dict[str, Bytes]:
        """Bytes by tensor name, in declared order."""
        values = {name: value for name, value in self.values if isinstance(value, int)}
        return {tensor.name: tensor.size(values) for tensor in self.tensors}
