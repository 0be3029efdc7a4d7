"""BERT: norms after each part, everything attends to everything; for masked words or for classes.

The forward pass follows transformers' ``modeling_bert.py`` (5.x) statement by statement, because the
lifetimes of its local variables decide the peak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from memplan.domain.architecture import Architecture, Dropout
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Workload
from memplan.families.bert_block import BertShape, Block, dropped
from memplan.families.config import Config, Where
from memplan.families.encoder import Encoder, Part, Projection, attached
from memplan.simulator import ops, picks
from memplan.simulator.activations import ACTIVATIONS, tanh
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.classification import cross_entropy
from memplan.simulator.matmul import linear
from memplan.simulator.norms import LayerNorm
from memplan.simulator.tensor import Parameter, Tape, Tensor

PROJECTIONS = ("query", "key", "value", "dense")
"""Linear layers by the names an adapter may target; ``dense`` is three of a block and one of the head."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "bert": {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "is_decoder": False,
        "tie_word_embeddings": True,
    }
}
"""Class defaults of transformers 5.x: BertConfig."""

MASKED = "BertForMaskedLM"
SEQUENCES = "BertForSequenceClassification"
TOKENS = "BertForTokenClassification"
HEADS = (MASKED, SEQUENCES, TOKENS)


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``. The class trained is the one ``architectures`` names, else the classifier.

    Raises:
        FieldError: a value has the wrong type or range, the heads do not divide, or the class or its use as
            a decoder is not simulated.
    """
    read = Config(config, DEFAULTS["bert"], where)
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    if hidden % heads:
        raise read.wrong("hidden_size", f"a multiple of num_attention_heads ({heads})")
    if read.flag("is_decoder"):
        raise read.wrong("is_decoder", "false: BERT as a decoder is not simulated")
    head = read.first("architectures", HEADS, SEQUENCES)
    if head == MASKED and not read.flag("tie_word_embeddings"):
        raise read.wrong("tie_word_embeddings", "true: an output matrix of its own is not simulated")
    given = read.get("classifier_dropout") is not None
    return BertShape(
        model_type="bert",
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        vocab_size=read.size("vocab_size"),
        tie_word_embeddings=True,
        max_position_embeddings=read.size("max_position_embeddings"),
        attention_bias=True,
        output_bias=True,
        mlp_bias=True,
        hidden_act=read.choice("hidden_act", ACTIVATIONS),
        dropout=Dropout(
            embedding=read.rate("hidden_dropout_prob"),
            hidden=read.rate("hidden_dropout_prob"),
            attention=read.rate("attention_probs_dropout_prob"),
        ),
        causal=False,
        head=head,
        classes=read.labels(),
        token_types=read.size("type_vocab_size"),
        head_dropout=read.rate("classifier_dropout" if given else "hidden_dropout_prob"),
    )


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Bert:
    """Load the model (and its adapters) in the simulator."""
    return Bert(tape, shape, workload, kind)


class Head:
    """What follows the blocks: the pooler of a classifier, or the transform of masked words."""

    __slots__ = ("linears",)

    def __init__(self, store: Store, name: str, hidden: int) -> None:
        self.linears: dict[str, Projection] = {"dense": Linear(store, name, hidden, hidden, bias=True)}


class Bert(Encoder):
    """``BertForMaskedLM``, ``BertForSequenceClassification`` and ``BertForTokenClassification``."""

    shape: BertShape

    def load(self, store: Store) -> None:
        """Embeddings, blocks, and the head's layers."""
        shape = self.shape
        hidden, tape = shape.hidden_size, store.tape
        rows = shape.max_position_embeddings
        self.words = store.parameter(
            "embeddings.word_embeddings.weight", (shape.vocab_size, hidden), "embeddings"
        )
        self.places = store.parameter("embeddings.position_embeddings.weight", (rows, hidden), "embeddings")
        self.types = store.parameter(
            "embeddings.token_type_embeddings.weight", (shape.token_types, hidden), "embeddings"
        )
        self.norm = LayerNorm(store, "embeddings.LayerNorm", hidden, component="embeddings")
        self.buffers = [
            Parameter(tape, (1, rows), Dtype.INT64, "embeddings", f"embeddings.{name}")
            for name in ("position_ids", "token_type_ids")
        ]
        self.blocks = [Block(store, shape, self.kind) for _ in self.layers()]
        self.head: Head | None = None
        if shape.head == MASKED:
            self.bias = store.parameter("cls.predictions.bias", (shape.vocab_size,), "decoder_matrix")
            self.head = Head(store, "cls.predictions.transform.dense", hidden)
            self.transform_norm = LayerNorm(store, "cls.predictions.transform.LayerNorm", hidden)
            return
        if shape.head == SEQUENCES:
            self.head = Head(store, "pooler.dense", hidden)
        self.classifier = Linear(
            store, "classifier", hidden, shape.classes, bias=True, component="decoder_matrix"
        )

    def parts(self) -> Iterable[Part]:
        """Blocks and head."""
        return self.blocks if self.head is None else [*self.blocks, self.head]

    def inputs(self, tape: Tape, batch: int) -> tuple[Tensor, Tensor]:
        """Token ids (B, S); labels as many, but one a sequence where sequences are classified."""
        if self.shape.head != SEQUENCES:
            return super().inputs(tape, batch)
        ids = tape.empty((batch, self.workload.sequence.length), Dtype.INT64, "input_ids")
        return ids, tape.empty((batch,), Dtype.INT64, "labels")

    def logit_sides(self) -> tuple[int, ...]:
        """Words or classes, for every token or for the sequence."""
        shape, length = self.shape, self.workload.sequence.length
        if shape.head == SEQUENCES:
            return (shape.classes,)
        return length, shape.vocab_size if shape.head == MASKED else shape.classes

    def loss(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""
        tape = inputs.tape
        sequence_output, pooled_output = self.model(inputs)
        tape.component, tape.scope = "logits_and_loss", "head"
        logits = self.logits(sequence_output, pooled_output)
        tape.trace.enter(Phase.LOSS)
        tape.scope = "loss"
        loss = cross_entropy(logits, labels)
        tape.component = "activations"
        return loss, logits

    def model(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """``BertModel``: the last hidden states, and what the pooler makes of the first token."""
        embedding_output = self.embeddings(inputs)
        mask = self.mask(embedding_output)
        sequence_output = self.encode(embedding_output, mask)
        pooled_output = self.pooled(sequence_output) if self.shape.head == SEQUENCES else None
        return sequence_output, pooled_output

    def embeddings(self, inputs: Tensor) -> Tensor:
        """``BertEmbeddings``."""
        tape, length = inputs.tape, inputs.shape[1]
        tape.scope = "embeddings"
        position_ids = self.buffers[0].alias((1, length), self.buffers[0].strides)
        types = tape.empty((1, length), Dtype.INT64, "gather")
        token_type_ids = types.alias(inputs.shape, (0, 1))
        inputs_embeds = attached(ops.embedding(self.words, inputs), self.workload)
        token_type_embeddings = ops.embedding(self.types, token_type_ids)
        embeddings = ops.add(inputs_embeds, token_type_embeddings)
        position_embeddings = ops.embedding(self.places, position_ids)
        embeddings = ops.add(embeddings, position_embeddings)
        embeddings = self.norm(embeddings)
        embeddings = dropped(embeddings, self.shape.dropout.embedding)
        return embeddings  # noqa: RET504

    def pooled(self, hidden_states: Tensor) -> Tensor:
        """``BertPooler``."""
        assert self.head is not None
        first_token_tensor = picks.select(hidden_states, 1)
        pooled_output = self.head.linears["dense"](first_token_tensor)
        pooled_output = tanh(pooled_output)
        return pooled_output  # noqa: RET504

    def logits(self, sequence_output: Tensor, pooled_output: Tensor | None) -> Tensor:
        """What the head makes of the hidden states."""
        if self.shape.head == MASKED:
            return self.predictions(sequence_output)
        states = sequence_output if pooled_output is None else pooled_output
        return self.classifier(dropped(states, self.shape.head_dropout))

    def predictions(self, hidden_states: Tensor) -> Tensor:
        """``BertLMPredictionHead``."""
        assert self.head is not None
        hidden_states = self.head.linears["dense"](hidden_states)
        hidden_states = ACTIVATIONS[self.shape.hidden_act](hidden_states)
        hidden_states = self.transform_norm(hidden_states)
        hidden_states.tape.scope = "cls.predictions.decoder"
        return linear(hidden_states, self.words, self.bias)
