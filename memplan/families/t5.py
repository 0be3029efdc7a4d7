"""T5: encoder and decoder with relative position biases that the blocks of a stack share.

The forward pass follows transformers' ``modeling_t5.py`` (5.x) statement by statement, because the lifetimes
of its local variables decide the peak. The workload's sequence length is that of inputs and of targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from memplan.domain.architecture import Architecture, Dropout
from memplan.domain.dtype import Dtype
from memplan.domain.errors import FieldError
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config, Where
from memplan.families.encoder import Encoder, Part, attached
from memplan.families.t5_block import Biases, Block, T5Shape, dropped
from memplan.simulator import masks, ops
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Store
from memplan.simulator.checkpoint import checkpoint
from memplan.simulator.classification import cross_entropy
from memplan.simulator.matmul import linear
from memplan.simulator.norms import T5LayerNorm
from memplan.simulator.tensor import Parameter, Tape, Tensor

PROJECTIONS = ("q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo")
"""Linear layers by the names an adapter may target; a model has ``wi`` or the gated pair."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "t5": {
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_heads": 8,
        "relative_attention_num_buckets": 32,
        "dropout_rate": 0.1,
        "feed_forward_proj": "relu",
        "is_decoder": False,
    }
}
"""Class defaults of transformers 5.x: T5Config."""

HEAD = "T5ForConditionalGeneration"
TARGETS = "targets are counted as long as the inputs"
_SAME = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
"""Names T5Config takes as well (its ``attribute_map``)."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or ``architectures`` names another class than the
            one with encoder and decoder.
    """
    written = {name: key for key, name in _SAME.items() if key in config}
    known = {_SAME.get(key, key): value for key, value in config.items()}
    read = Config(known, DEFAULTS["t5"], lambda key: where(written.get(key, key)))
    read.first("architectures", (HEAD, "T5WithLMHeadModel"), HEAD)
    if read.flag("is_decoder"):
        raise read.wrong("is_decoder", "false: a T5 without encoder is not simulated")
    gated, activation = _activation(read)
    rate = read.rate("dropout_rate")
    heads, layers = read.size("num_heads"), read.size("num_layers")
    return T5Shape(
        model_type="t5",
        hidden_size=read.size("d_model"),
        intermediate_size=read.size("d_ff"),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=read.size("d_kv"),
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=True,
        max_position_embeddings=read.size_or_none("n_positions") or 512,
        hidden_act=activation,
        dropout=Dropout(embedding=rate, hidden=rate, attention=rate),
        causal=False,
        masked=True,
        decoder_layers=read.size_or_none("num_decoder_layers") or layers,
        gated=gated,
        buckets=read.size("relative_attention_num_buckets"),
        scaled=read.get("tie_word_embeddings") is not False,
        unmodelled=((TARGETS, 0),),
    )


def _activation(read: Config) -> tuple[bool, str]:
    """``feed_forward_proj``: an activation, behind ``gated-`` where there are two first layers."""
    plain = {name: (False, name) for name in ACTIVATIONS}
    gated = {f"gated-{name}": (True, name) for name in ACTIVATIONS}
    choices = plain | gated | {"gated-gelu": (True, "gelu_new")}
    return choices[read.choice("feed_forward_proj", choices)]


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> T5:
    """Load the model (and its adapters) in the simulator.

    Raises:
        FieldError: the workload asks of T5 what is not simulated.
    """
    if kind not in (Attention.EAGER, Attention.EFFICIENT):
        raise FieldError(f"attention {kind} is not simulated for t5", expected="eager, or sdpa")
    if workload.precision.params is Dtype.FP16 or workload.quantization is not None:
        raise FieldError("t5 is simulated in bf16 and fp32 only", hint="fp16 overflows in T5")
    if workload.checkpointing.chunk > 1:
        raise FieldError("blocks of t5 are checkpointed one by one", expected="checkpointing in no chunks")
    return T5(tape, shape, workload, kind)


class _Positional:
    """A block whose arguments stand in a tuple, which lets go of the last one first."""

    __slots__ = ("block",)

    def __init__(self, block: Block) -> None:
        self.block = block

    def __call__(self, hidden_states: Tensor, *others: Tensor | None) -> Biases:
        return self.block(hidden_states, *reversed(others))


class Stack:
    """``T5Stack``."""

    def __init__(
        self, store: Store, shape: T5Shape, workload: Workload, kind: Attention, *, is_decoder: bool
    ) -> None:
        self.shape = shape
        self.workload = workload
        self.kind = kind
        self.is_decoder = is_decoder
        on = bool(workload.checkpointing.every)
        # Counted through both stacks, as transformers does (``_set_gradient_checkpointing``).
        self.first = shape.num_hidden_layers if is_decoder else 0
        self.checkpointed = {
            block for region in workload.checkpointing.regions(shape.depth) for block in region
        }
        self.blocks = [
            Block(store, shape, kind, is_decoder=is_decoder, is_first=not index, checkpointed=on)
            for index in range(shape.decoder_layers if is_decoder else shape.num_hidden_layers)
        ]
        name = "decoder" if is_decoder else "encoder"
        self.final_layer_norm = T5LayerNorm(store, f"{name}.final_layer_norm", shape.hidden_size)

    def __call__(
        self, embed_tokens: Parameter, tokens: Tensor, encoder_hidden_states: Tensor | None
    ) -> Tensor:
        tokens.tape.scope = "embed_tokens"
        rate = self.shape.dropout.hidden
        # Named first, and so the first to go when the stack returns: an argument of the forward pass.
        mask: Tensor | None = None
        inputs_embeds = attached(ops.embedding(embed_tokens, tokens), self.workload)
        mask = self._mask(inputs_embeds)
        position_bias: Tensor | None = None
        cross_bias: Tensor | None = None
        hidden_states = dropped(inputs_embeds, rate)
        for index, block in enumerate(self.blocks):
            hidden_states, self_attention_position_bias, cross_attention_position_bias = self._run(
                index, block, hidden_states, mask, position_bias, encoder_hidden_states, cross_bias
            )
            position_bias = self_attention_position_bias
            if self.is_decoder:
                cross_bias = cross_attention_position_bias
        hidden_states = self.final_layer_norm(hidden_states)
        hidden_states = dropped(hidden_states, rate)
        return hidden_states  # noqa: RET504

    def _mask(self, inputs_embeds: Tensor) -> Tensor | None:
        """The decoder's causal mask for eager attention; with a bias SDPA makes its own."""
        if not self.is_decoder or self.kind is not Attention.EAGER:
            return None
        inputs_embeds.tape.scope = "causal_mask"
        return masks.additive(masks.causal(inputs_embeds, inputs_embeds.shape[1]), inputs_embeds.dtype)

    def _run(self, index: int, block: Block, hidden_states: Tensor, *others: Tensor | None) -> Biases:
        if self.first + index not in self.checkpointed:
            return block(hidden_states, *others)
        return checkpoint(_Positional(block), hidden_states, *reversed(others))


class T5(Encoder):
    """``T5ForConditionalGeneration``."""

    shape: T5Shape

    def load(self, store: Store) -> None:
        """The shared embeddings, encoder and decoder."""
        shape = self.shape
        self.shared = store.parameter("shared.weight", (shape.vocab_size, shape.hidden_size), "embeddings")
        self.encoder = Stack(store, shape, self.workload, self.kind, is_decoder=False)
        self.decoder = Stack(store, shape, self.workload, self.kind, is_decoder=True)

    def parts(self) -> Iterator[Part]:
        """Attention and MLP of the blocks of both."""
        for block in (*self.encoder.blocks, *self.decoder.blocks):
            yield from block.parts()

    def logit_sides(self) -> tuple[int, ...]:
        """Words, for every token of a target."""
        return self.workload.sequence.length, self.shape.vocab_size

    def loss(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""
        tape = inputs.tape
        hidden_states = self.encoder(self.shared, inputs, None)
        decoder_input_ids = _shifted(labels)
        decoder_outputs = self.decoder(self.shared, decoder_input_ids, hidden_states)
        sequence_output = decoder_outputs
        if self.shape.scaled:
            sequence_output = ops.mul_scalar(sequence_output)
        tape.component, tape.scope = "logits_and_loss", "lm_head"
        logits = linear(sequence_output, self.shared)
        tape.trace.enter(Phase.LOSS)
        tape.scope = "loss"
        loss = cross_entropy(logits, labels)
        tape.component = "activations"
        return loss, Output(logits, hidden_states)


class Output(Tensor):
    """Logits in the output of the model, which holds the encoder's last hidden states too."""

    __slots__ = ("encoder_last_hidden_state",)

    def __init__(self, logits: Tensor, encoder_last_hidden_state: Tensor) -> None:
        super().__init__(logits.tape, logits.storage, logits.shape, logits.strides, logits.dtype, logits.base)
        self.node = logits.node
        self.encoder_last_hidden_state = encoder_last_hidden_state

    def __del__(self) -> None:
        # The logits go first: CPython would clear what the subclass adds before them.
        del self.node, self.base, self.storage


def _shifted(labels: Tensor) -> Tensor:
    """``_shift_right``: the targets behind a start token."""
    tape = labels.tape
    tape.scope = "decoder"
    shifted = tape.empty(labels.shape, Dtype.INT64, "new_zeros")
    kept = tape.empty((labels.shape[0], labels.shape[1] - 1), Dtype.INT64, "clone")
    del kept
    padding = tape.empty(labels.shape, Dtype.BOOL, "eq")
    del padding
    return shifted
