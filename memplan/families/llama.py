"""Llama, Mistral and Qwen2: pre-norm decoders with grouped-query attention, rotary positions and SwiGLU.

The forward pass follows transformers' ``modeling_llama.py`` statement by statement (5.x), because the
lifetimes of its local variables decide the peak.

Shape suffixes: B batch, S sequence, H heads, K key/value heads, D head width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from memplan.domain.architecture import Architecture, ParameterGroup
from memplan.domain.errors import Location
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config
from memplan.simulator import attention, masks, ops, shapes
from memplan.simulator.adapters import LoraLinear, adapt
from memplan.simulator.autograd import require_grad
from memplan.simulator.blocks import Linear, RMSNorm, Rotary, Store, rotate
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.kernels import needs_mask
from memplan.simulator.loss import causal_lm_loss
from memplan.simulator.matmul import linear
from memplan.simulator.tensor import Tape, Tensor

Projection = Linear | LoraLinear
Where = Callable[[str], Location | None]

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers of a block, in load order: what an adapter may target."""

_SHARED: dict[str, object] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
DEFAULTS: dict[str, Mapping[str, object]] = {
    "llama": _SHARED,
    "mistral": _SHARED
    | {
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
    },
    "qwen2": _SHARED
    | {
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
    },
}
"""Class defaults of transformers 5.x: LlamaConfig, MistralConfig, Qwen2Config."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json`` of one of the three types.

    Raises:
        FieldError: a value has the wrong type or range, or the heads do not divide.
    """
    model_type = str(config["model_type"])
    read = Config(config, DEFAULTS[model_type], where)
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    shape = Architecture(
        model_type=model_type,
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=_key_value_heads(read, heads),
        head_dim=read.size_or_none("head_dim") or _head_dim(read, hidden, heads),
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=read.flag("tie_word_embeddings"),
        max_position_embeddings=read.size("max_position_embeddings"),
        attention_bias=model_type == "qwen2" or (model_type == "llama" and read.flag("attention_bias")),
        output_bias=model_type == "llama" and read.flag("attention_bias"),
        mlp_bias=model_type == "llama" and read.flag("mlp_bias"),
        sliding_window=_sliding_window(read, model_type),
    )
    return replace(shape, groups=groups(shape))


def _key_value_heads(read: Config, heads: int) -> int:
    found = read.size_or_none("num_key_value_heads") or heads
    if heads % found:
        raise read.wrong("num_key_value_heads", f"a divisor of num_attention_heads ({heads})")
    return found


def _head_dim(read: Config, hidden: int, heads: int) -> int:
    if hidden % heads:
        raise read.wrong(
            "hidden_size", f"a multiple of num_attention_heads ({heads}), or an explicit head_dim"
        )
    return hidden // heads


def _sliding_window(read: Config, model_type: str) -> int | None:
    """Llama has none; Mistral's is on by default, Qwen2's only with ``use_sliding_window``."""
    if model_type == "llama" or (model_type == "qwen2" and not read.flag("use_sliding_window")):
        return None
    return read.size_or_none("sliding_window")


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Llama:
    """Load the model (and its adapters) in the simulator."""
    return Llama(tape, shape, workload, kind)


def groups(shape: Architecture) -> tuple[ParameterGroup, ...]:
    """Every parameter of the model, once."""
    hidden, layers = shape.hidden_size, shape.num_hidden_layers
    found = [ParameterGroup(name="embed_tokens", component="embeddings", shape=(shape.vocab_size, hidden))]
    for name, (inputs, outputs, bias) in _linears(shape).items():
        found.append(ParameterGroup(name=name, component="blocks", shape=(outputs, inputs), copies=layers))
        if bias:
            found.append(
                ParameterGroup(name=f"{name}.bias", component="blocks", shape=(outputs,), copies=layers)
            )
    norms = 2 * layers + 1
    found.append(ParameterGroup(name="norms", component="blocks", shape=(hidden,), copies=norms))
    if not shape.tie_word_embeddings:
        found.append(
            ParameterGroup(name="lm_head", component="decoder_matrix", shape=(shape.vocab_size, hidden))
        )
    return tuple(found)


def _linears(shape: Architecture) -> dict[str, tuple[int, int, bool]]:
    """(inputs, outputs, bias) of each linear layer of a block."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    sides = ((hidden, queries), (hidden, keys), (hidden, keys), (queries, hidden))
    biases = (shape.attention_bias,) * 3 + (shape.output_bias,)
    mlp = ((hidden, inner), (hidden, inner), (inner, hidden))
    rows = [(*side, bias) for side, bias in zip(sides, biases, strict=True)]
    return dict(zip(PROJECTIONS, rows + [(*side, shape.mlp_bias) for side in mlp], strict=True))


class Block:
    """``LlamaDecoderLayer``."""

    __slots__ = ("input_layernorm", "kind", "linears", "post_attention_layernorm", "shape")

    def __init__(self, store: Store, shape: Architecture, kind: Attention) -> None:
        self.shape = shape
        self.kind = kind
        self.linears: dict[str, Projection] = {
            name: Linear(store, f"layers.*.{_parent(name)}.{name}", inputs, outputs, bias=bias)
            for name, (inputs, outputs, bias) in _linears(shape).items()
        }
        self.input_layernorm = RMSNorm(store, "layers.*.input_layernorm", shape.hidden_size)
        self.post_attention_layernorm = RMSNorm(store, "layers.*.post_attention_layernorm", shape.hidden_size)

    def __call__(
        self, hidden_states: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        hidden_states, _ = self.attend(hidden_states, cosine, sine, mask)
        hidden_states = ops.add(residual, hidden_states)
        residual = hidden_states
        hidden_states = self.post_attention_layernorm(hidden_states)
        hidden_states = self.mlp(hidden_states)
        return ops.add(residual, hidden_states)

    def attend(
        self, hidden_states: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """``LlamaAttention``: the output, and the attention probabilities where they exist."""
        batch, length, _ = hidden_states.shape
        query = self._heads("q_proj", hidden_states)
        key = self._heads("k_proj", hidden_states)
        value = self._heads("v_proj", hidden_states)
        hidden_states.tape.scope = "layers.*.self_attn"
        query, key = rotate(query, key, cosine, sine)
        weights: Tensor | None = None
        if self.kind is Attention.EAGER:
            output, weights = attention.eager(query, key, value, mask)
        else:
            output = attention.sdpa(self.kind, query, key, value, mask)
        output = shapes.contiguous(shapes.view(output, (batch, length, query.shape[1] * query.shape[3])))
        output = self.linears["o_proj"](output)
        return output, weights

    def _heads(self, name: str, hidden_states: Tensor) -> Tensor:
        batch, length, _ = hidden_states.shape
        projected = self.linears[name](hidden_states)
        width = self.shape.head_dim
        return shapes.transpose(
            shapes.view(projected, (batch, length, projected.shape[-1] // width, width)), 1, 2
        )

    def mlp(self, x: Tensor) -> Tensor:
        """``LlamaMLP``."""
        layers = self.linears
        return layers["down_proj"](ops.mul(ops.silu(layers["gate_proj"](x)), layers["up_proj"](x)))


def _parent(name: str) -> str:
    return "self_attn" if name in PROJECTIONS[:4] else "mlp"


class Llama:
    """``LlamaForCausalLM``, its adapters included; ``leaves`` are the trainable parameters."""

    __slots__ = (
        "blocks",
        "checkpointing",
        "embed_tokens",
        "head",
        "kind",
        "leaves",
        "norm",
        "rotary",
        "shape",
        "workload",
    )

    def __init__(self, tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> None:
        adapter = workload.adapter
        store = Store(tape, workload.precision.params, trainable=adapter is None)
        self.shape = shape
        self.workload = workload
        self.kind = kind
        self.checkpointing = workload.checkpointing.every
        table = (shape.vocab_size, shape.hidden_size)
        self.embed_tokens = store.parameter("embed_tokens.weight", table, "embeddings")
        self.blocks = [Block(store, shape, kind) for _ in range(shape.num_hidden_layers)]
        self.norm = RMSNorm(store, "norm", shape.hidden_size)
        self.rotary = Rotary(store, shape.head_dim)
        tied = shape.tie_word_embeddings
        self.head = self.embed_tokens if tied else store.parameter("lm_head.weight", table, "decoder_matrix")
        self.leaves = store.leaves
        if adapter is not None:
            adapters = Store(tape, adapter.dtype, trainable=True)
            for block in self.blocks:
                block.linears = adapt(block.linears, adapter, adapters)
            self.leaves = adapters.leaves

    def loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The causal language-model loss and the logits of a batch of token ids (B, S)."""
        tape = tokens.tape
        hidden_states = self.hidden(tokens)
        tape.component, tape.scope = "logits_and_loss", "lm_head"
        logits = linear(hidden_states, self.head)
        tape.trace.enter(Phase.LOSS)
        tape.scope = "loss"
        loss = causal_lm_loss(logits, labels)
        tape.component = "activations"
        return loss, logits

    def hidden(self, tokens: Tensor) -> Tensor:
        """``LlamaModel``: the last hidden state (B, S, h).

        With adapters under checkpointing, PEFT makes the embeddings need a gradient
        (``enable_input_require_grads``).
        """
        tape, length = tokens.tape, tokens.shape[1]
        tape.scope = "embed_tokens"
        inputs_embeds = ops.embedding(self.embed_tokens, tokens)
        if self.workload.adapter is not None and self.checkpointing:
            require_grad(inputs_embeds, "embed_tokens")
        hidden_states = inputs_embeds
        mask = self._mask(hidden_states, length)
        cosine, sine = self.rotary(hidden_states, length)
        extra = () if mask is None else (mask,)
        for index, block in enumerate(self.blocks):
            if self.checkpointing and index % self.checkpointing == 0:
                hidden_states = checkpoint(block, hidden_states, cosine, sine, *extra)
            else:
                hidden_states = block(hidden_states, cosine, sine, *extra)
        return self.norm(hidden_states)

    def _mask(self, hidden_states: Tensor, length: int) -> Tensor | None:
        """Eager attention always gets an additive mask; SDPA a boolean one, and only when it has to."""
        hidden_states.tape.scope = "causal_mask"
        if self.kind is Attention.EAGER:
            return masks.additive(masks.causal(hidden_states, length), hidden_states.dtype)
        if needs_mask(self.shape, self.workload) and self.kind is not Attention.FLASH_ATTENTION_2:
            return masks.causal(hidden_states, length)
        return None
