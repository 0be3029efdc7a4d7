"""ViT: an encoder of image patches behind a class token, for image classification.

The forward pass follows transformers' ``modeling_vit.py`` (5.x) statement by statement, because the lifetimes
of its local variables decide the peak. Positions are patches: the workload's sequence length does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.domain.architecture import Architecture, Dropout
from memplan.domain.dtype import Dtype
from memplan.domain.trace import Phase
from memplan.domain.workload import Attention, Workload
from memplan.families.config import Config, Where
from memplan.families.encoder import Encoder, Projection, attached
from memplan.simulator import eager, ops, picks, shapes
from memplan.simulator.activations import ACTIVATIONS
from memplan.simulator.blocks import Linear, Store
from memplan.simulator.classification import cross_entropy
from memplan.simulator.conv2d import patches
from memplan.simulator.norms import LayerNorm
from memplan.simulator.tensor import Tape, Tensor

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")
"""Linear layers of a block, in load order: what an adapter may target."""

DEFAULTS: dict[str, Mapping[str, object]] = {
    "vit": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "qkv_bias": True,
    }
}
"""Class defaults of transformers 5.x: ViTConfig."""

HEAD = "ViTForImageClassification"
WORKSPACE = "what cuDNN takes to cut patches is not known: up to every image unfolded once more in fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class VitShape(Architecture):
    """``image`` and ``patch`` are heights and widths in pixels, ``classes`` what is told apart."""

    image: tuple[int, int]
    patch: tuple[int, int]
    channels: int
    classes: int


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, the heads do not divide, a patch is larger than the
            image, or ``architectures`` names another class than the image classifier.
    """
    read = Config(config, DEFAULTS["vit"], where)
    heads, hidden = read.size("num_attention_heads"), read.size("hidden_size")
    if hidden % heads:
        raise read.wrong("hidden_size", f"a multiple of num_attention_heads ({heads})")
    read.first("architectures", (HEAD,), HEAD)
    image, patch = _sides(read, "image_size"), _sides(read, "patch_size")
    if patch[0] > image[0] or patch[1] > image[1]:
        raise read.wrong("patch_size", "no more than image_size")
    bias = read.flag("qkv_bias")
    classes, channels = read.labels(), read.size("num_channels")
    return VitShape(
        model_type="vit",
        hidden_size=hidden,
        intermediate_size=read.size("intermediate_size"),
        num_hidden_layers=read.size("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=hidden // heads,
        vocab_size=classes,
        tie_word_embeddings=False,
        max_position_embeddings=(image[0] // patch[0]) * (image[1] // patch[1]) + 1,
        attention_bias=bias,
        output_bias=True,
        mlp_bias=True,
        hidden_act=read.choice("hidden_act", ACTIVATIONS),
        dropout=Dropout(
            embedding=read.rate("hidden_dropout_prob"),
            hidden=read.rate("hidden_dropout_prob"),
            attention=read.rate("attention_probs_dropout_prob"),
        ),
        causal=False,
        image=image,
        patch=patch,
        channels=channels,
        classes=classes,
        unmodelled=((WORKSPACE, channels * image[0] * image[1] * Dtype.FP32.itemsize),),
    )


def _sides(read: Config, key: str) -> tuple[int, int]:
    """One side for a square, or height and width."""
    value = read.get(key)
    if not isinstance(value, list | tuple):
        side = read.size(key)
        return side, side
    if len(value) != 2:
        raise read.wrong(key, "one size in pixels, or a height and a width")
    height, width = (Config({key: side}, {}, read.where).size(key) for side in value)
    return height, width


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Vit:
    """Load the model (and its adapters) in the simulator."""
    return Vit(tape, shape, workload, kind)


def _dropped(x: Tensor, rate: float) -> Tensor:
    return ops.dropout(x) if rate else x


class Block:
    """``ViTLayer``."""

    __slots__ = ("activation", "kind", "layernorm_after", "layernorm_before", "linears", "shape")

    def __init__(self, store: Store, shape: VitShape, kind: Attention) -> None:
        self.shape = shape
        self.kind = kind
        self.activation = ACTIVATIONS[shape.hidden_act]
        hidden, inner = shape.hidden_size, shape.intermediate_size
        self.linears: dict[str, Projection] = {}
        for name in PROJECTIONS[:4]:
            bias = shape.attention_bias or name == "o_proj"
            self.linears[name] = Linear(store, f"layers.*.attention.{name}", hidden, hidden, bias=bias)
        self.layernorm_before = LayerNorm(store, "layers.*.layernorm_before", hidden)
        self.layernorm_after = LayerNorm(store, "layers.*.layernorm_after", hidden)
        self.linears["fc1"] = Linear(store, "layers.*.mlp.fc1", hidden, inner, bias=True)
        self.linears["fc2"] = Linear(store, "layers.*.mlp.fc2", inner, hidden, bias=True)

    def __call__(self, hidden_states: Tensor, mask: Tensor | None) -> Tensor:
        rate = self.shape.dropout.hidden
        residual = hidden_states
        hidden_states = self.layernorm_before(hidden_states)
        hidden_states, _ = self.attend(hidden_states, mask)
        hidden_states = _dropped(hidden_states, rate)
        hidden_states = ops.add(hidden_states, residual)
        residual = hidden_states
        hidden_states = self.layernorm_after(hidden_states)
        hidden_states = self.mlp(hidden_states)
        hidden_states = _dropped(hidden_states, rate)
        return ops.add(hidden_states, residual)

    def attend(self, hidden_states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``ViTAttention``: the output, and the attention probabilities where they exist."""
        query = self._heads("q_proj", hidden_states)
        key = self._heads("k_proj", hidden_states)
        value = self._heads("v_proj", hidden_states)
        hidden_states.tape.scope = "layers.*.attention"
        dropout = self.shape.dropout.attention
        output, weights = eager.kernel(self.kind, query, key, value, mask, causal=False, dropout=dropout)
        output = shapes.contiguous(shapes.view(output, hidden_states.shape))
        output = self.linears["o_proj"](output)
        return output, weights

    def _heads(self, name: str, hidden_states: Tensor) -> Tensor:
        batch, length, _ = hidden_states.shape
        heads = (batch, length, self.shape.num_attention_heads, self.shape.head_dim)
        return shapes.transpose(shapes.view(self.linears[name](hidden_states), heads), 1, 2)

    def mlp(self, hidden_states: Tensor) -> Tensor:
        """``ViTMLP``."""
        hidden_states = self.linears["fc1"](hidden_states)
        hidden_states = self.activation(hidden_states)
        hidden_states = self.linears["fc2"](hidden_states)
        return hidden_states  # noqa: RET504


class Vit(Encoder):
    """``ViTForImageClassification``."""

    shape: VitShape

    def load(self, store: Store) -> None:
        """Class token, positions, the convolution, blocks, the final norm and the classifier."""
        shape = self.shape
        hidden = shape.hidden_size
        positions = (1, shape.max_position_embeddings, hidden)
        self.cls_token = store.parameter("embeddings.cls_token", (1, 1, hidden), "embeddings")
        self.positions = store.parameter("embeddings.position_embeddings", positions, "embeddings")
        name = "embeddings.patch_embeddings.projection"
        kernel = (hidden, shape.channels, *shape.patch)
        self.projection = store.parameter(f"{name}.weight", kernel, "embeddings")
        self.projection_bias = store.parameter(f"{name}.bias", (hidden,), "embeddings")
        self.blocks = [Block(store, shape, self.kind) for _ in self.layers()]
        self.layernorm = LayerNorm(store, "layernorm", hidden)
        self.classifier = Linear(
            store, "classifier", hidden, shape.classes, bias=True, component="decoder_matrix"
        )

    def inputs(self, tape: Tape, batch: int) -> tuple[Tensor, Tensor]:
        """Pixels (B, channels, height, width) in fp32, and one label an image."""
        pixels = tape.empty((batch, self.shape.channels, *self.shape.image), Dtype.FP32, "pixel_values")
        return pixels, tape.empty((batch,), Dtype.INT64, "labels")

    def logit_sides(self) -> tuple[int, ...]:
        """Classes."""
        return (self.shape.classes,)

    def loss(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and logits of a batch."""
        tape = inputs.tape
        sequence_output = self.model(inputs)
        pooled_output = picks.select(sequence_output, 1)
        tape.component, tape.scope = "logits_and_loss", "classifier"
        logits = self.classifier(pooled_output)
        tape.trace.enter(Phase.LOSS)
        tape.scope = "loss"
        loss = cross_entropy(logits, labels)
        tape.component = "activations"
        return loss, logits

    def model(self, pixel_values: Tensor) -> Tensor:
        """``ViTModel``: the last hidden states."""
        pixel_values = ops.to(pixel_values, self.projection.dtype)
        embedding_output = self.embeddings(pixel_values)
        mask = self.mask(embedding_output)
        hidden_states = self.encode(embedding_output, mask)
        return self.layernorm(hidden_states)

    def embeddings(self, pixel_values: Tensor) -> Tensor:
        """``ViTEmbeddings``."""
        pixel_values.tape.scope = "embeddings"
        embeddings = attached(self.cut(pixel_values), self.workload)
        batch, _, width = embeddings.shape
        cls_tokens = shapes.expand(self.cls_token, (batch, 1, width))
        embeddings = picks.cat(cls_tokens, embeddings, 1)
        embeddings = ops.add(embeddings, self.positions)
        embeddings = _dropped(embeddings, self.shape.dropout.embedding)
        return embeddings  # noqa: RET504

    def cut(self, pixel_values: Tensor) -> Tensor:
        """``ViTPatchEmbeddings``: (B, patches, h), a view of what the convolution makes."""
        made = patches(pixel_values, self.projection, self.projection_bias)
        batch, width, rows, columns = made.shape
        return shapes.transpose(shapes.view(made, (batch, width, rows * columns)), 1, 2)
