"""Gemma: a Llama-like decoder with scaled embeddings, wide heads and norms that scale in fp32.

The forward pass follows transformers' ``modeling_gemma.py`` (5.x).
"""

from __future__ import annotations

from collections.abc import Mapping

from memplan.domain.architecture import Architecture
from memplan.domain.dtype import Dtype
from memplan.domain.workload import Attention, Workload
from memplan.families import attention_block
from memplan.families.attention_block import PROJECTIONS
from memplan.families.config import Config, Where
from memplan.families.decoder import Decoder
from memplan.families.decoder_shape import decoder_shape
from memplan.simulator import blocks, liger, ops
from memplan.simulator.blocks import Store
from memplan.simulator.tensor import Parameter, Tape, Tensor

__all__ = ["DEFAULTS", "PROJECTIONS", "Block", "architecture", "build"]

DEFAULTS: dict[str, Mapping[str, object]] = {
    "gemma": {
        "vocab_size": 256000,
        "hidden_size": 3072,
        "intermediate_size": 24576,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
"""Class defaults of transformers 5.x: GemmaConfig."""


def architecture(config: Mapping[str, object], where: Where) -> Architecture:
    """Read a ``config.json``.

    Raises:
        FieldError: a value has the wrong type or range, or contradicts another.
    """
    return decoder_shape(causal(Config(config, DEFAULTS["gemma"], where)))


def causal(read: Config) -> Config:
    """The same keys, unless they ask every token to see every other.

    Raises:
        FieldError: they do.
    """
    if read.flag("use_bidirectional_attention"):
        raise read.wrong("use_bidirectional_attention", "false: only causal models are simulated")
    return read


def build(tape: Tape, shape: Architecture, workload: Workload, kind: Attention) -> Gemma:
    """Load the model (and its adapters) in the simulator."""
    return Gemma(tape, shape, workload, kind)


class RMSNorm(blocks.RMSNorm):
    """``GemmaRMSNorm``: scales by one plus the weight, in fp32."""

    __slots__ = ()

    def __call__(self, x: Tensor) -> Tensor:
        x.tape.scope = self.name
        if x.tape.liger.rms_norm:
            return liger.rms_norm(x, self.weight, in_place=x.tape.liger.in_place)
        output = self._normalised(ops.to(x, Dtype.FP32))
        output = ops.mul(output, ops.add_scalar(ops.to(self.weight, Dtype.FP32)))
        return ops.to(output, x.dtype)

    def _normalised(self, x: Tensor) -> Tensor:
        return ops.mul(x, ops.rsqrt(ops.add_scalar(ops.mean_last(ops.square(x)))))


class Block(attention_block.Block):
    """``GemmaDecoderLayer``."""

    __slots__ = ()

    Norm = RMSNorm


class Gemma(Decoder):
    """``GemmaForCausalLM``."""

    def make_block(self, store: Store, index: int) -> attention_block.Block:
        """All blocks are alike."""
        return Block(store, self.shape, self.kernel(index))

    def make_positions(self, store: Store) -> None:
        """The factor that embeddings are scaled by."""
        self.embed_scale = Parameter(store.tape, (), store.dtype, "embeddings", "embed_tokens.embed_scale")

    def make_norm(self, store: Store) -> RMSNorm:
        """The norm behind the last block."""
        return RMSNorm(store, "norm", self.shape.hidden_size)

    def embed(self, tokens: Tensor) -> Tensor:
        """``GemmaTextScaledWordEmbedding``."""
        return ops.mul(super().embed(tokens), self.embed_scale)
