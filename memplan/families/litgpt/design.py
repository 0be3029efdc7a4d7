"""What litgpt's ``Config`` says of a model, derived from the model's Hugging Face configuration.

Vocabularies need no padding of their own: litgpt's ``padded_vocab_size`` is the height of the published
embeddings (litgpt/config.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from memplan.domain.architecture import Architecture
from memplan.domain.framework import Framework

_LLAMAS = ("llama", "mistral", "qwen2", "phi3")
COVERED = (*_LLAMAS, "gemma", "gpt_neox", "falcon", "phi")
"""The ``model_type`` values whose litgpt model is simulated."""

_SLIDING_SINCE = (0, 4, 13)
"""From here on layers of Mistral and Phi-3 get a mask of their own for their window (litgpt/config.py)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Which of litgpt's ways of writing the same model a release has.

    ``narrow_norms`` (0.0): RMSNorm computes in the input's dtype. ``wide_scale`` (0.0.1, and again from
    0.4.6): its weight is applied in fp32. ``padding_copies`` (before 0.3.1): updates of q and v are padded
    out of place. ``interleaved`` (before 0.5.5): q, k and v lie side by side for every group of heads.
    ``sums_first`` (0.0): the residual stands in front of what is added to it. ``names_norms`` (from 0.5.5):
    a block holds what its MLP reads, and adds attention's result before. ``clones_index`` (from 0.5.13):
    every pass has its own copy of the indices of adapted columns. ``keeps_inputs`` (before 0.5.5):
    bitsandbytes is pinned to 0.42 or older, whose 4-bit products hold on to their input as long as the graph
    lives.

    ``window_replaces`` (from 0.5.12): a mask for a sliding window takes the place of the causal one instead
    of being added to it.

    lit-gpt had no releases: 0.0 stands for its code up to 24 October 2023, 0.0.1 for the months after.
    """

    narrow_norms: bool
    wide_scale: bool
    padding_copies: bool
    interleaved: bool
    sums_first: bool
    names_norms: bool
    clones_index: bool
    keeps_inputs: bool
    window_replaces: bool

    @classmethod
    def of(cls, framework: Framework) -> Release:
        """The habits of the release a workload names."""
        return cls(
            narrow_norms=framework.litgpt_before(0, 0, 1),
            wide_scale=framework.litgpt_before(0, 1) or not framework.litgpt_before(0, 4, 6),
            padding_copies=framework.litgpt_before(0, 3, 1),
            interleaved=framework.litgpt_before(0, 5, 5),
            sums_first=framework.litgpt_before(0, 0, 1),
            names_norms=not framework.litgpt_before(0, 5, 5),
            clones_index=not framework.litgpt_before(0, 5, 13),
            keeps_inputs=framework.litgpt_before(0, 5, 5),
            window_replaces=not framework.litgpt_before(0, 5, 12),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Sides and switches of litgpt's ``GPT``.

    ``width``, ``inner`` and ``vocabulary`` are the widths of hidden states, MLP and logits; ``heads`` queries
    of ``head`` numbers are spread over ``groups`` of keys, ``rotary`` numbers of each rotate.
    ``shared_norm``: a parallel block has one norm. ``gated``: the MLP has three layers.
    """

    width: int
    inner: int
    vocabulary: int
    depth: int
    heads: int
    groups: int
    head: int
    rotary: int
    bias: bool
    qkv_bias: bool
    head_bias: bool
    parallel: bool
    shared_norm: bool
    rms: bool
    unit_offset: bool
    gated: bool
    scaled: bool
    activation: str

    @property
    def packed(self) -> int:
        """Outputs of the layer that makes q, k and v."""
        return (self.heads + 2 * self.groups) * self.head


def design(shape: Architecture) -> Design:
    """litgpt's settings for a covered architecture."""
    kind = shape.model_type
    llama, gemma, phi = kind in _LLAMAS, kind == "gemma", kind == "phi"
    return Design(
        width=shape.hidden_size,
        inner=shape.intermediate_size,
        vocabulary=shape.vocab_size,
        depth=shape.num_hidden_layers,
        heads=shape.num_attention_heads,
        groups=getattr(shape, "key_value_groups", None) or shape.num_key_value_heads,
        head=shape.head_dim,
        rotary=shape.rotary_dim or shape.head_dim,
        bias=kind in ("gpt_neox", "phi"),
        qkv_bias=shape.attention_bias or kind in ("gpt_neox", "phi"),
        head_bias=phi,
        parallel=phi or bool(getattr(shape, "parallel", False)),
        shared_norm=phi or (kind == "falcon" and getattr(shape, "norms", 2) == 1),
        rms=llama or gemma,
        unit_offset=gemma,
        gated=llama or gemma,
        scaled=gemma,
        activation="gelu" if not llama else "silu",
    )


def windowed(shape: Architecture, framework: Framework) -> bool:
    """Whether every layer makes itself a mask for a sliding window, however long the sequence."""
    return shape.sliding_window is not None and not framework.litgpt_before(*_SLIDING_SINCE)
